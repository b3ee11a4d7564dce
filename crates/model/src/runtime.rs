//! ONNX Runtime: its library, sessions over graph files, and the tensors that go in and out.
//!
//! The only file that names `ort`. It knows no model: what the inputs mean is left to its callers.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use ndarray::{Array, ArrayViewD, Dimension};
use ort::{
    environment::Environment,
    ep,
    logging::LogLevel,
    memory::MemoryInfo,
    session::{SessionInputValue, SessionOutputs},
    value::{DynValue, PrimitiveTensorElementType},
};
use serde::{Deserialize, Serialize};

/// What went wrong in ONNX Runtime, and in which file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library is not there or not readable.
    #[error("cannot find the ONNX Runtime library `{}`", library.display())]
    Library {
        /// The path that was asked for.
        library: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The file is not an ONNX Runtime library, or is too old.
    #[error("cannot load the ONNX Runtime library `{}`", library.display())]
    Load {
        /// The path that was asked for.
        library: PathBuf,
        /// Why it does not fit.
        source: ort::LoadDynamicError,
    },
    /// A process holds one ONNX Runtime, and it has another.
    #[error("cannot load `{}`: this process has already loaded `{}`", library.display(), loaded.display())]
    AlreadyLoaded {
        /// The path that was asked for.
        library: PathBuf,
        /// The one in use.
        loaded: PathBuf,
    },
    /// The library was loaded but does not start.
    #[error("cannot start the ONNX Runtime library `{}`", library.display())]
    Start {
        /// The library.
        library: PathBuf,
        /// What it said.
        source: ort::Error,
    },
    /// The device was asked for and cannot be had.
    #[error("cannot run `{}` on `{device}`", graph.display())]
    Device {
        /// The graph file that was to be opened.
        graph: PathBuf,
        /// The device.
        device: Device,
        /// What ONNX Runtime said.
        source: ort::Error,
    },
    /// The graph file cannot be opened: missing, damaged, or with operators that the library lacks.
    #[error("cannot open the graph `{}`", graph.display())]
    Open {
        /// The graph file.
        graph: PathBuf,
        /// What ONNX Runtime said.
        source: ort::Error,
    },
    /// A run failed: wrong inputs, or a failure of the device.
    #[error("cannot run the graph `{}`", graph.display())]
    Run {
        /// The graph file.
        graph: PathBuf,
        /// What ONNX Runtime said.
        source: ort::Error,
    },
    /// The graph has no such output.
    #[error("the graph `{}` has no output `{name}`", graph.display())]
    MissingOutput {
        /// The graph file.
        graph: PathBuf,
        /// The output that was asked for.
        name: String,
    },
    /// The array cannot become a tensor.
    #[error("cannot make a tensor of shape {shape:?}")]
    Make {
        /// The shape of the array.
        shape: Vec<usize>,
        /// What ONNX Runtime said.
        source: ort::Error,
    },
    /// The tensor does not hold elements of that type, or is not in the memory of the host.
    #[error("cannot read a tensor of shape {shape:?} as `{element}`")]
    Read {
        /// The shape of the tensor.
        shape: Vec<i64>,
        /// The type that was asked for.
        element: &'static str,
        /// What ONNX Runtime said.
        source: ort::Error,
    },
}

/// The result of what this module does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where a session computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA device of this ordinal. Needs a library built with CUDA; there is no falling back.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(ordinal) => write!(formatter, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "cpu" {
            return Ok(Self::Cpu);
        }
        text.strip_prefix("cuda:")
            .and_then(|ordinal| ordinal.parse().ok())
            .map(Self::Cuda)
            .ok_or_else(|| format!("expected `cpu` or `cuda:N`, not `{text}`"))
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

/// How a graph is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// Where it computes.
    pub device: Device,
    /// Threads within one operator; 0 lets ONNX Runtime take one a core.
    pub threads: usize,
}

/// The ONNX Runtime library of this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Runtime {
    library: PathBuf,
    environment: Environment,
}

/// The library of this process: it can be loaded only once, and is never unloaded.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the ONNX Runtime library at `library`. The same file again gives the same runtime.
    ///
    /// # Errors
    /// [`Error::Library`] if there is no such file, [`Error::AlreadyLoaded`] if this process uses
    /// another one, [`Error::Load`] and [`Error::Start`] if it is not one that we can use.
    pub fn load(library: &Path) -> Result<Self> {
        let library = library
            .canonicalize()
            .map_err(|source| Error::Library { library: library.to_owned(), source })?;
        // The value is written in one step, so a panic elsewhere leaves it whole.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return if runtime.library == library {
                Ok(runtime.clone())
            } else {
                Err(Error::AlreadyLoaded { library, loaded: runtime.library.clone() })
            };
        }
        let runtime = Self::start(library)?;
        Ok(loaded.insert(runtime).clone())
    }

    fn start(library: PathBuf) -> Result<Self> {
        let builder = match ort::init_from(&library) {
            Ok(builder) => builder,
            Err(source) => return Err(Error::Load { library, source }),
        };
        let started = builder
            .with_name("eventide")
            .with_telemetry(false)
            .with_logger(Arc::new(|level, category, _, location, message| {
                log(level, category, location, message);
            }))
            .build();
        match started {
            Ok(environment) => {
                environment.set_log_level(LogLevel::Warning);
                Ok(Self { library, environment })
            }
            Err(source) => Err(Error::Start { library, source }),
        }
    }

    /// The library file, symbolic links followed.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Opens a graph file; its external data is looked for beside it.
    ///
    /// # Errors
    /// [`Error::Device`] if the device cannot be had, [`Error::Open`] if the graph cannot be used.
    pub fn open(&self, graph: &Path, options: &SessionOptions) -> Result<Session> {
        self.open_with(graph, options, ep::CPU::default().with_arena_allocator(true))
    }

    /// As [`Runtime::open`], for a session on the processor that gives memory back after each run. It is for graphs whose
    /// runs need very different sizes: what is kept for one of them is of no use to the others.
    ///
    /// # Errors
    /// As [`Runtime::open`].
    pub fn open_frugal(&self, graph: &Path, options: &SessionOptions) -> Result<Session> {
        self.open_with(graph, options, ep::CPU::default().with_arena_allocator(false))
    }

    fn open_with(
        &self,
        graph: &Path,
        options: &SessionOptions,
        processor: ep::CPU,
    ) -> Result<Session> {
        let open_error = |source| Error::Open { graph: graph.to_owned(), source };
        let mut builder = self.builder(options, processor).map_err(open_error)?;
        if let Device::Cuda(ordinal) = options.device {
            let provider = cuda(ordinal);
            builder =
                builder.with_execution_providers([provider]).map_err(|error| Error::Device {
                    graph: graph.to_owned(),
                    device: options.device,
                    source: error.into(),
                })?;
        }
        let session = builder.commit_from_file(graph).map_err(open_error)?;
        let names = |outlets: &[ort::value::Outlet]| {
            outlets.iter().map(|outlet| outlet.name().to_owned()).collect()
        };
        Ok(Session {
            graph: graph.to_owned(),
            inputs: names(session.inputs()),
            outputs: names(session.outputs()),
            device: options.device,
            resident: Vec::new(),
            native: session,
        })
    }

    fn builder(
        &self,
        options: &SessionOptions,
        processor: ep::CPU,
    ) -> ort::Result<ort::session::builder::SessionBuilder> {
        Ok(ort::session::Session::builder(&self.environment)?
            .with_log_level(LogLevel::Warning)?
            .with_intra_threads(options.threads)?
            .with_inter_threads(1)?
            // A plan is kept for each set of input shapes; the shapes of a decoder never come back.
            .with_memory_pattern(false)?
            .with_execution_providers([processor.build()])?
            // Threads that spin after a run would take time from the other sessions.
            .with_config_entry("session.force_spinning_stop", "1")?)
    }
}

/// Full float32, as on the processor: a worker must answer what the others answer.
fn cuda(ordinal: u32) -> ep::ExecutionProviderDispatch {
    ep::CUDA::default()
        .with_device_id(i32::try_from(ordinal).unwrap_or(i32::MAX))
        .with_tf32(false)
        .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
        .build()
        .error_on_failure()
}

fn log(level: LogLevel, category: &str, location: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error => {
            tracing::error!(category, location, "onnxruntime: {message}");
        }
        LogLevel::Warning => tracing::warn!(category, location, "onnxruntime: {message}"),
        LogLevel::Info | LogLevel::Verbose => {
            tracing::trace!(category, location, "onnxruntime: {message}");
        }
    }
}

/// An opened graph. One run at a time.
#[derive(Debug)]
pub struct Session {
    graph: PathBuf,
    inputs: Vec<String>,
    outputs: Vec<String>,
    device: Device,
    resident: Vec<String>,
    native: ort::session::Session,
}

impl Session {
    /// The graph file.
    #[must_use]
    pub fn graph(&self) -> &Path {
        &self.graph
    }

    /// Names of the inputs, in the order of the graph.
    #[must_use]
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Names of the outputs, in the order of the graph.
    #[must_use]
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Leaves the outputs of these names on the device, for the next run to take as inputs. They
    /// cannot be read ([`Tensor::view`]) unless the device is the processor.
    ///
    /// # Errors
    /// [`Error::MissingOutput`] for a name that the graph lacks.
    pub fn keep_on_device(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            if !self.outputs.iter().any(|output| output == name) {
                return Err(self.missing_output(name));
            }
        }
        self.resident = names.iter().map(|&name| name.to_owned()).collect();
        Ok(())
    }

    /// Runs the graph on inputs given by name. Inputs are lent and outputs owned, and neither is
    /// copied, so that what one run puts out goes into the next as it is.
    ///
    /// # Errors
    /// [`Error::Run`] if an input is missing, unknown or of another type or shape than the graph
    /// says, or if the device fails.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Outputs> {
        let ran = if self.resident.is_empty() {
            let inputs: Vec<(&str, SessionInputValue<'_>)> =
                inputs.iter().map(|(name, tensor)| (*name, (&tensor.0).into())).collect();
            self.native.run(inputs).map(owned)
        } else {
            self.run_bound(inputs)
        };
        match ran {
            Ok(tensors) => Ok(Outputs { graph: self.graph.clone(), tensors }),
            Err(source) => Err(Error::Run { graph: self.graph.clone(), source }),
        }
    }

    /// As `run`, with the resident outputs left in device memory. A binding reuses its output
    /// buffers from run to run, so each run has its own.
    fn run_bound(&mut self, inputs: &[(&str, &Tensor)]) -> ort::Result<Vec<(String, Tensor)>> {
        let mut binding = self.native.create_binding()?;
        for (name, tensor) in inputs {
            binding.bind_input(*name, &tensor.0)?;
        }
        let host = MemoryInfo::default();
        let device = device_memory(self.device)?;
        for name in &self.outputs {
            let memory = if self.resident.contains(name) { &device } else { &host };
            binding.bind_output_to_device(name, memory)?;
        }
        binding.synchronize_inputs()?;
        let outputs = self.native.run_binding(&binding).map(owned)?;
        binding.synchronize_outputs()?;
        Ok(outputs)
    }

    fn missing_output(&self, name: &str) -> Error {
        Error::MissingOutput { graph: self.graph.clone(), name: name.to_owned() }
    }
}

fn device_memory(device: Device) -> ort::Result<MemoryInfo<'static>> {
    use ort::memory::{AllocationDevice, AllocatorType, MemoryType};
    match device {
        Device::Cpu => Ok(MemoryInfo::default()),
        Device::Cuda(ordinal) => MemoryInfo::new(
            AllocationDevice::CUDA,
            i32::try_from(ordinal).unwrap_or(i32::MAX),
            AllocatorType::Device,
            MemoryType::Default,
        ),
    }
}

fn owned(outputs: SessionOutputs<'_>) -> Vec<(String, Tensor)> {
    outputs.into_iter().map(|(name, value)| (name.to_owned(), Tensor(value))).collect()
}

/// What a run put out.
#[derive(Debug)]
pub struct Outputs {
    graph: PathBuf,
    tensors: Vec<(String, Tensor)>,
}

impl Outputs {
    /// Takes an output out by its name.
    ///
    /// # Errors
    /// [`Error::MissingOutput`] if there is none, or it was taken before.
    pub fn take(&mut self, name: &str) -> Result<Tensor> {
        match self.tensors.iter().position(|(output, _)| output == name) {
            Some(index) => Ok(self.tensors.swap_remove(index).1),
            None => Err(Error::MissingOutput { graph: self.graph.clone(), name: name.to_owned() }),
        }
    }

    /// The outputs not yet taken, with their names; in the order of the graph if none was.
    #[must_use]
    pub fn into_tensors(self) -> Vec<(String, Tensor)> {
        self.tensors
    }
}

/// An element of a tensor: `f32`, `i64` or `u8`.
pub trait Element: PrimitiveTensorElementType + fmt::Debug + Clone + 'static {
    /// Its name in Rust.
    const NAME: &'static str;
}

impl Element for f32 {
    const NAME: &'static str = "f32";
}

impl Element for i64 {
    const NAME: &'static str = "i64";
}

impl Element for u8 {
    const NAME: &'static str = "u8";
}

/// A tensor that ONNX Runtime can read. It may lie in device memory.
#[derive(Debug)]
pub struct Tensor(DynValue);

impl Tensor {
    /// Takes an array over; it is copied only if it does not lie in row-major order.
    ///
    /// # Errors
    /// [`Error::Make`] if ONNX Runtime refuses it.
    pub fn from_array<T: Element, D: Dimension + 'static>(array: Array<T, D>) -> Result<Self> {
        let shape = array.shape().to_vec();
        match ort::value::Tensor::from_array(array) {
            Ok(tensor) => Ok(Self(tensor.into_dyn())),
            Err(source) => Err(Error::Make { shape, source }),
        }
    }

    /// Its elements, where they lie.
    ///
    /// # Errors
    /// [`Error::Read`] if it holds another type, or lies in the memory of a device.
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        self.0.try_extract_array::<T>().map_err(|source| Error::Read {
            shape: self.0.shape().to_vec(),
            element: T::NAME,
            source,
        })
    }

    /// Its dimensions.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape().iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Array4};
    use rstest::rstest;

    fn library() -> PathBuf {
        let tools = std::env::var_os("EVENTIDE_TOOLS").map(PathBuf::from).unwrap_or_default();
        let library = tools.join("libonnxruntime.so");
        assert!(library.exists(), "no `{}`: run `cargo xtask setup`", library.display());
        library
    }

    #[test]
    fn a_library_is_loaded_once() {
        let first = Runtime::load(&library()).unwrap();
        let again = Runtime::load(&library()).unwrap();
        assert_eq!(first.library(), again.library());
        let other = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let error = Runtime::load(other).unwrap_err();
        assert!(matches!(error, Error::AlreadyLoaded { .. }), "{error}");
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = Runtime::load(Path::new("/nowhere/libonnxruntime.so")).unwrap_err();
        let expected = "cannot find the ONNX Runtime library `/nowhere/libonnxruntime.so`";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_damaged_graph_is_named() {
        let runtime = Runtime::load(&library()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let graph = folder.path().join("broken.onnx");
        std::fs::write(&graph, b"not a graph").unwrap();
        let error = runtime.open(&graph, &SessionOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot open the graph `{}`", graph.display()));
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let runtime = Runtime::load(&library()).unwrap();
        let options = SessionOptions { device: Device::Cuda(99), threads: 1 };
        let error = runtime.open(Path::new("any.onnx"), &options).unwrap_err();
        assert_eq!(error.to_string(), "cannot run `any.onnx` on `cuda:99`");
    }

    #[rstest]
    #[case::row_major(false)]
    #[case::transposed(true)]
    fn arrays_come_back_as_they_went_in(#[case] transposed: bool) {
        Runtime::load(&library()).unwrap();
        let mut array = Array2::from_shape_vec((2, 3), (0..6_i64).collect()).unwrap();
        if transposed {
            array = array.reversed_axes();
        }
        let tensor = Tensor::from_array(array.clone()).unwrap();
        assert_eq!(tensor.shape(), array.shape());
        assert_eq!(tensor.view::<i64>().unwrap(), array.into_dyn());
        assert!(matches!(tensor.view::<f32>(), Err(Error::Read { element: "f32", .. })));
    }

    #[test]
    fn an_empty_past_is_a_tensor() {
        Runtime::load(&library()).unwrap();
        let tensor = Tensor::from_array(Array4::<f32>::zeros((4, 2, 0, 8))).unwrap();
        assert_eq!(tensor.shape(), [4, 2, 0, 8]);
        assert_eq!(tensor.view::<f32>().unwrap().len(), 0);
    }
}
