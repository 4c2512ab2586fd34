//! The header of a GGUF file: metadata, and where each tensor is.

use super::{Metadata, Value, Wrong};
use std::io::{self, ErrorKind, Read};

/// Values in the metadata, those of arrays counted one by one. A vocabulary brings three for each
/// token, and each takes about 32 bytes of memory, for as little as one in the file.
const MOST_VALUES: u64 = 4 << 20;
/// Arrays within arrays.
const DEEPEST: usize = 8;
/// Dimensions of a tensor, as GGML has it.
const MOST_DIMS: u32 = 4;
/// Where the metadata does not tell.
const ALIGNMENT: u64 = 32;

pub(super) struct Header {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Info>,
    /// Where in the file the place is that the tensors' offsets count from. A file without tensors may end
    /// before that.
    pub(super) data: u64,
}

pub(super) struct Info {
    pub(super) name: String,
    /// Outermost first.
    pub(super) dims: Vec<usize>,
    /// GGML's number for it.
    pub(super) dtype: u32,
    pub(super) offset: u64,
}

impl Header {
    /// Reads the header of a file of `len` bytes.
    pub(super) fn parse(file: impl Read, len: u64) -> Result<Self, Wrong> {
        let mut reader = Reader {
            file,
            left: len,
            values: 0,
        };
        if &reader.array::<4>()? != b"GGUF" {
            return Err("it is not a GGUF file".into());
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("version {version} of GGUF, or another byte order").into());
        }
        let (tensors, values) = (reader.u64()?, reader.u64()?);
        let metadata = reader.metadata(values)?;
        let tensors = reader.tensors(tensors)?;
        let alignment = alignment(&metadata)?;
        let data = (len - reader.left).checked_next_multiple_of(alignment);
        Ok(Self {
            metadata,
            tensors,
            data: data.ok_or("general.alignment is too large")?,
        })
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, Wrong> {
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(Value::U32(alignment)) => u64::from(*alignment),
        Some(other) => return Err(format!("general.alignment is {other:?}, not a u32").into()),
    };
    if !alignment.is_power_of_two() {
        return Err(format!("general.alignment is {alignment}, not a power of two").into());
    }
    Ok(alignment)
}

/// Text, without a copy if it is UTF-8.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Takes from the front, and nothing that is not there.
struct Reader<R> {
    file: R,
    /// Bytes that are left.
    left: u64,
    /// Read until now.
    values: u64,
}

impl<R: Read> Reader<R> {
    /// Takes this many bytes off those that are left.
    fn spend(&mut self, len: u64) -> Result<(), Wrong> {
        let left = self.left.checked_sub(len);
        self.left = left.ok_or("the header is cut short")?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        self.spend(N as u64)?;
        let mut array = [0; N];
        self.file.read_exact(&mut array)?;
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, Wrong> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Wrong> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<Vec<u8>, Wrong> {
        let len = self.u64()?;
        self.spend(len)?;
        let mut text = Vec::new();
        text.try_reserve_exact(usize::try_from(len)?)?;
        match self.file.by_ref().take(len).read_to_end(&mut text)? as u64 {
            read if read == len => Ok(text),
            _ => Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
        }
    }

    fn name(&mut self) -> Result<String, Wrong> {
        Ok(String::from_utf8(self.text()?)?)
    }

    fn metadata(&mut self, count: u64) -> Result<Metadata, Wrong> {
        let mut metadata = Metadata::new();
        for _ in 0..count {
            let key = self.name()?;
            let kind = self.u32()?;
            let value = self.value(kind, 0)?;
            if metadata.contains_key(&key) {
                return Err(format!("{key:?} is there twice").into());
            }
            metadata.insert(key, value);
        }
        Ok(metadata)
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, Wrong> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(format!("more than {MOST_VALUES} values of metadata").into());
        }
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array()?)),
            1 => Value::I8(i8::from_le_bytes(self.array()?)),
            2 => Value::U16(u16::from_le_bytes(self.array()?)),
            3 => Value::I16(i16::from_le_bytes(self.array()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.array::<1>()? != [0]),
            // Some vocabularies have tokens that are no UTF-8.
            8 => Value::String(text(self.text()?)),
            9 => self.values(depth)?,
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            other => return Err(format!("a value of unknown type {other}").into()),
        })
    }

    fn values(&mut self, depth: usize) -> Result<Value, Wrong> {
        if depth == DEEPEST {
            return Err(format!("arrays in arrays, more than {DEEPEST} deep").into());
        }
        let (kind, len) = (self.u32()?, self.u64()?);
        // Grows as elements are found, whatever the length says; each takes a byte at least.
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(self.value(kind, depth + 1)?);
        }
        values.shrink_to_fit();
        Ok(Value::Array(values))
    }

    fn tensors(&mut self, count: u64) -> Result<Vec<Info>, Wrong> {
        let mut tensors = Vec::new();
        for _ in 0..count {
            tensors.push(self.tensor()?);
        }
        Ok(tensors)
    }

    fn tensor(&mut self) -> Result<Info, Wrong> {
        let name = self.name()?;
        let rank = self.u32()?;
        if rank > MOST_DIMS {
            return Err(format!("tensor {name:?} has {rank} dimensions").into());
        }
        let mut dims = Vec::new();
        for _ in 0..rank {
            dims.push(usize::try_from(self.u64()?)?);
        }
        dims.reverse();
        Ok(Info {
            name,
            dims,
            dtype: self.u32()?,
            offset: self.u64()?,
        })
    }
}
