//! Reading files of weights, which may be damaged or hostile.

mod file;
mod gguf;
mod index;
mod npz;
mod safetensors;

use super::{Params, QuantizedParams};
use crate::error::{ParamsError, Result};
use candle_core::{Device, Tensor};
use file::{Meter, WeightFile};

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

/// What went wrong inside of a file, in words.
type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of files done with. It never falls, and ends at `total`.
    pub done: u64,
    /// Bytes of all files of this load.
    pub total: u64,
}

/// Loads weights from files, with options.
///
/// Files are read piece by piece, not mapped: a file that somebody cuts short meanwhile is
/// [`ParamsError::Io`]. Each tensor is read into memory of its own, which is not filled with anything
/// before. A load takes little more memory than the weights: a piece of 256 KiB; on other devices than the CPU,
/// and for quantized weights, the tensor that is being made as well. What a file claims about
/// itself is checked against its length before memory is taken for it. Who changes a file while
/// it is read gets tensors of old and new bytes.
///
/// ```no_run
/// use candlewick::{Device, Loader};
/// let params = Loader::new(&Device::Cpu)
///     .on_progress(|progress| eprintln!("{} of {} bytes", progress.done, progress.total))
///     .dir("models/qwen2")?;
/// println!("{} parameters", params.snapshot().len());
/// # Ok::<_, candlewick::Error>(())
/// ```
pub struct Loader<'p> {
    device: Device,
    meter: Meter<'p>,
}

impl<'p> Loader<'p> {
    /// A loader of tensors that shall live on `device`.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            meter: Meter::default(),
        }
    }

    /// Calls `report` on the loading thread, at least once for every file and for every 8 MiB
    /// of tensors, or for every tensor where those are larger.
    pub fn on_progress(mut self, report: impl FnMut(Progress) + 'p) -> Self {
        self.meter.report_to(Box::new(report));
        self
    }

    /// The tensors of one or more safetensors files, as [`Params::load`].
    ///
    /// # Errors
    /// As [`Params::load`].
    pub fn files<P: AsRef<Path>>(mut self, files: &[P]) -> Result<Params> {
        for file in files {
            self.meter.expect(file.as_ref())?;
        }
        let mut tensors = Vec::new();
        for file in files {
            let file = WeightFile::open(file.as_ref())?;
            tensors.extend(safetensors::read(
                &file,
                None,
                &self.device,
                &mut self.meter,
            )?);
            self.meter.finish(&file);
            refuse_duplicates(&file, &tensors)?;
        }
        Params::from_map(tensors)
    }

    /// The tensors that a `model.safetensors.index.json` lists, from the shards beside it. What
    /// a shard holds besides is left out.
    ///
    /// # Errors
    /// [`ParamsError`], naming the file and, where it is known, the parameter: an index that is
    /// not one; a shard that is absent, or outside of the index's folder by its path; a name that
    /// its shard lacks; and what [`Params::load`] refuses.
    pub fn index(mut self, index: impl AsRef<Path>) -> Result<Params> {
        let index = index.as_ref();
        let shards = index::read(index)?;
        for file in shards.keys() {
            self.meter.expect(file)?;
        }
        let mut tensors = Vec::new();
        for (file, names) in &shards {
            let file = WeightFile::open(file)?;
            let read = safetensors::read(&file, Some(names), &self.device, &mut self.meter)?;
            self.meter.finish(&file);
            let found: HashSet<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
            if let Some(name) = names.iter().find(|name| !found.contains(name.as_str())) {
                let error = format!("{} puts it into this file, which lacks it", index.display());
                return Err(file.error(Some(name), error).into());
            }
            tensors.extend(read);
        }
        Params::from_map(tensors)
    }

    /// A model's folder, as Hugging Face lays it out: `model.safetensors` if there is one, else
    /// the shards of `model.safetensors.index.json`.
    ///
    /// # Errors
    /// As [`index`](Self::index); a folder with neither is [`ParamsError::Io`].
    pub fn dir(self, dir: impl AsRef<Path>) -> Result<Params> {
        let whole = dir.as_ref().join("model.safetensors");
        let index = dir.as_ref().join("model.safetensors.index.json");
        if !whole.exists() && index.exists() {
            return self.index(index);
        }
        self.files(&[whole])
    }

    /// The arrays of a NumPy `.npz` file, named as in `np.savez(file, name=array)`. Float16,
    /// float32, float64, uint8, bool (as u8), uint32, int16, int32 and int64, little-endian, in C
    /// order, not compressed.
    ///
    /// # Errors
    /// [`ParamsError`], naming the file and, where it is known, the parameter: a file that cannot
    /// be read, is cut short, damaged, hostile or compressed; an array in Fortran order;
    /// a dtype other than these.
    pub fn npz(mut self, file: impl AsRef<Path>) -> Result<Params> {
        self.meter.expect(file.as_ref())?;
        let file = WeightFile::open(file.as_ref())?;
        let tensors = npz::read(&file, &self.device, &mut self.meter)?;
        self.meter.finish(&file);
        refuse_duplicates(&file, &tensors)?;
        Params::from_map(tensors)
    }

    /// The tensors and the metadata of a GGUF file of version 2 or 3, little-endian. F32, F16,
    /// BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, and Q2_K to Q6_K.
    ///
    /// # Errors
    /// [`ParamsError`], naming the file and, where it is known, the parameter: a file that cannot
    /// be read, is cut short, damaged or hostile; more than four million values of metadata;
    /// a dtype other than these.
    pub fn gguf(mut self, file: impl AsRef<Path>) -> Result<QuantizedParams> {
        self.meter.expect(file.as_ref())?;
        let file = WeightFile::open(file.as_ref())?;
        let (metadata, weights) = gguf::read(&file, &self.device, &mut self.meter)?;
        self.meter.finish(&file);
        Ok(QuantizedParams::new(metadata, weights))
    }
}

fn refuse_duplicates(file: &WeightFile, tensors: &[(String, Tensor)]) -> Result<(), ParamsError> {
    let mut names = HashSet::new();
    match tensors.iter().find(|(name, _)| !names.insert(name)) {
        Some((name, _)) => Err(ParamsError::Duplicate {
            name: name.clone(),
            file: file.path().to_owned(),
        }),
        None => Ok(()),
    }
}

impl fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("device", &self.device.location())
            .finish_non_exhaustive()
    }
}
