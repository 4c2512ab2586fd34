//! Tensors of a request, in its JSON or in the bytes behind it.

use crate::refusal::Refused;
use serde::Deserialize;
use serde_json::Value;

/// An input as it comes.
#[derive(Deserialize)]
pub struct Input {
    pub name: String,
    pub shape: Vec<usize>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    data: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
}

/// An input's values, in the order of rows.
pub enum Values {
    Bytes(Vec<String>),
    Integers(Vec<i64>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(texts) => texts.len(),
            Self::Integers(integers) => integers.len(),
        }
    }
}

impl Input {
    /// Its values; those that are binary are taken from the front of `binary`.
    pub fn read(self, binary: &mut &[u8]) -> Result<Values, Refused> {
        let refuse = |what: String| Refused::bad(format!("{}: {what}", self.name));
        let values = match (self.data, self.parameters.binary_data_size) {
            (Some(data), None) => from_json(&self.datatype, &data),
            (None, Some(size)) => match binary.split_at_checked(size) {
                Some((own, rest)) => {
                    *binary = rest;
                    from_bytes(&self.datatype, own)
                }
                None => Err(format!("{size} bytes, of which {} are there", binary.len())),
            },
            _ => Err("expected either data or binary_data_size".to_owned()),
        };
        let values = values.map_err(refuse)?;
        let count = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if count != Some(values.len()) {
            let (shape, len) = (&self.shape, values.len());
            return Err(refuse(format!("{len} values for the shape {shape:?}")));
        }
        Ok(values)
    }
}

/// The values of nested lists, or of one list, in which they are in the same order.
fn from_json(datatype: &str, data: &Value) -> Result<Values, String> {
    let mut leaves = Vec::new();
    flatten(data, &mut leaves);
    let wrong = |leaf: &Value| format!("{leaf} is not of {datatype}");
    match datatype {
        "BYTES" => {
            let text = |leaf: &&Value| leaf.as_str().map(str::to_owned).ok_or(wrong(leaf));
            let texts: Result<_, _> = leaves.iter().map(text).collect();
            texts.map(Values::Bytes)
        }
        "INT64" | "INT32" => {
            let integer = |leaf: &&Value| leaf.as_i64().ok_or_else(|| wrong(leaf));
            let integers: Result<_, _> = leaves.iter().map(integer).collect();
            integers.map(Values::Integers)
        }
        _ => Err(unknown(datatype)),
    }
}

/// The parser has bounded how deep it goes.
fn flatten<'a>(value: &'a Value, leaves: &mut Vec<&'a Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| flatten(value, leaves)),
        leaf => leaves.push(leaf),
    }
}

fn from_bytes(datatype: &str, mut bytes: &[u8]) -> Result<Values, String> {
    match datatype {
        // each with its length before it, of 4 bytes
        "BYTES" => {
            let mut texts = Vec::new();
            while !bytes.is_empty() {
                let (length, rest) = bytes.split_first_chunk().ok_or("a length is cut short")?;
                let length = u32::from_le_bytes(*length) as usize;
                let (text, rest) = rest.split_at_checked(length).ok_or("a text is cut short")?;
                let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
                texts.push(text.to_owned());
                bytes = rest;
            }
            Ok(Values::Bytes(texts))
        }
        "INT64" => integers(bytes, i64::from_le_bytes),
        "INT32" => integers(bytes, |bytes| i32::from_le_bytes(bytes).into()),
        _ => Err(unknown(datatype)),
    }
}

fn integers<const N: usize>(bytes: &[u8], read: fn([u8; N]) -> i64) -> Result<Values, String> {
    let (chunks, []) = bytes.as_chunks::<N>() else {
        return Err(format!("{} bytes are not a multiple of {N}", bytes.len()));
    };
    Ok(Values::Integers(chunks.iter().map(|&c| read(c)).collect()))
}

fn unknown(datatype: &str) -> String {
    format!("the datatype {datatype:?}, expected BYTES, INT64 or INT32")
}
