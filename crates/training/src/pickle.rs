//! Pickles, read without running them.
//!
//! A pickle is a program for a machine with a stack. Ours builds a tree of what the program names: a
//! call is written down, never made. Still a name that no checkpoint needs, such as `os system`, is
//! refused, so that a hostile file is told from a damaged one.

use std::collections::HashMap;

/// Why a pickle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// It ends within an instruction, or before its end was said.
    #[error("the pickle is cut short at byte {at}")]
    Truncated {
        /// Where it ends.
        at: usize,
    },
    /// An instruction that `PyTorch` does not write.
    #[error("the pickle has the unknown instruction {instruction:#04x} at byte {at}")]
    Instruction {
        /// The instruction.
        instruction: u8,
        /// Where it stands.
        at: usize,
    },
    /// An instruction that does not fit what came before it.
    #[error("the pickle makes no sense at byte {at}")]
    Senseless {
        /// Where that instruction stands.
        at: usize,
    },
    /// Python code that no checkpoint of weights needs.
    #[error("the pickle names the Python code `{name}`, which no weights need; it was not run")]
    Code {
        /// Its module and name.
        name: String,
    },
}

/// What checkpoints name besides the types of storages: all of them hold data.
const KNOWN: [&str; 17] = [
    "collections OrderedDict",
    "collections defaultdict",
    "argparse Namespace",
    "pathlib PosixPath",
    "_codecs encode",
    "numpy dtype",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
    "torch Size",
    "torch device",
    REBUILD_TENSOR,
    REBUILD_PARAMETER,
    "torch.jit._pickle build_boollist",
    "torch.jit._pickle build_doublelist",
    "torch.jit._pickle build_intlist",
    "torch.jit._pickle build_tensorlist",
    "torch.jit._pickle restore_type_tag",
];

/// What makes a tensor of a storage.
pub(crate) const REBUILD_TENSOR: &str = "torch._utils _rebuild_tensor_v2";
/// What makes a parameter of a tensor.
pub(crate) const REBUILD_PARAMETER: &str = "torch._utils _rebuild_parameter";
/// The module whose classes a `TorchScript` archive brings with it.
const SCRIPT: &str = "__torch__";

fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
        || is_script(name)
        || name.strip_prefix("torch ").is_some_and(|class| class.ends_with("Storage"))
}

/// Whether `name` is a class of a `TorchScript` archive.
pub(crate) fn is_script(name: &str) -> bool {
    name.strip_prefix(SCRIPT).is_some_and(|rest| rest.starts_with(['.', ' ']))
}

/// An object's place in its [`Pickle`].
pub(crate) type Place = usize;

/// Something that a pickle describes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Anything whose value no tensor depends on: `None`, a float, bytes.
    Other,
    /// A tuple or a list.
    Sequence(Vec<Place>),
    /// A dictionary.
    Dictionary(Vec<(Place, Place)>),
    /// Something in Python by its module and name.
    Name(String),
    /// A call of a function or class that was not made.
    Call {
        /// Module and name.
        name: String,
        /// Its arguments, a sequence.
        arguments: Place,
        /// What was put into it by keys.
        entries: Vec<(Place, Place)>,
        /// What it was told to become.
        state: Option<Place>,
    },
    /// Something outside the pickle, by what stands for it.
    Outside(Place),
}

/// All objects of a pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    objects: Vec<Object>,
    root: Place,
}

impl Pickle {
    /// Reads a pickle to its end.
    ///
    /// # Errors
    /// Where it is wrong. What it takes in memory is at most some hundred times its length.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, PickleError> {
        let mut machine = Machine { bytes, ..Machine::default() };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { objects: machine.objects, root })
    }

    /// The object that the pickle is of.
    pub(crate) fn root(&self) -> &Object {
        self.get(self.root)
    }

    /// The object at a place.
    pub(crate) fn get(&self, place: Place) -> &Object {
        // A machine gives places of its own objects only.
        self.objects.get(place).unwrap_or(&Object::Other)
    }

    /// The values of a dictionary whose keys are texts, by these; none for anything else.
    pub(crate) fn named<'a>(
        &'a self,
        object: &'a Object,
    ) -> impl Iterator<Item = (&'a str, &'a Object)> {
        let entries = match object {
            Object::Dictionary(entries) | Object::Call { entries, .. } => entries.as_slice(),
            _ => &[],
        };
        entries.iter().filter_map(|&(key, value)| match self.get(key) {
            Object::Text(key) => Some((key.as_str(), self.get(value))),
            _ => None,
        })
    }

    /// The items of a sequence, if it has at least `N`: the first ones.
    pub(crate) fn items<const N: usize>(&self, object: &Object) -> Option<[&Object; N]> {
        let Object::Sequence(items) = object else { return None };
        let items: [Place; N] = items.get(..N)?.try_into().ok()?;
        Some(items.map(|place| self.get(place)))
    }

    /// The whole numbers of a sequence that holds nothing else.
    pub(crate) fn sizes(&self, object: &Object) -> Option<Vec<usize>> {
        let Object::Sequence(items) = object else { return None };
        items.iter().map(|&place| self.size(self.get(place))).collect()
    }

    /// A whole number that is not negative.
    #[expect(clippy::unused_self, reason = "beside its siblings")]
    pub(crate) fn size(&self, object: &Object) -> Option<usize> {
        match object {
            Object::Integer(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }
}

/// The machine that a pickle is a program for.
#[derive(Debug, Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    /// Where the instruction stands that is being done.
    start: usize,
    at: usize,
    objects: Vec<Object>,
    stack: Vec<Place>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<usize, Place>,
}

impl<'a> Machine<'a> {
    /// Does one instruction; `false` after the last.
    fn step(&mut self) -> Result<bool, PickleError> {
        self.start = self.at;
        let [instruction] = self.take()?;
        if instruction == b'.' {
            return Ok(false);
        }
        let known = self.shift(instruction)?
            || self.value(instruction)?
            || self.container(instruction)?
            || self.reference(instruction)?;
        if known { Ok(true) } else { Err(PickleError::Instruction { instruction, at: self.start }) }
    }

    /// Does an instruction that only moves what is there; `false` if it is another.
    fn shift(&mut self, instruction: u8) -> Result<bool, PickleError> {
        match instruction {
            0x80 => self.pass(1)?,
            0x95 => self.pass(8)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_marked()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Does an instruction that gives a value of its own; `false` if it is another.
    fn value(&mut self, instruction: u8) -> Result<bool, PickleError> {
        match instruction {
            b'N' | 0x88 | 0x89 => self.push(Object::Other),
            b'J' | b'K' | b'M' | 0x8a => self.integer(instruction)?,
            b'G' => {
                self.pass(8)?;
                self.push(Object::Other);
            }
            b'B' | b'T' | 0x8b => self.skip_counted(4)?,
            b'C' | b'U' => self.skip_counted(1)?,
            0x8e => self.skip_counted(8)?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Does an instruction that makes or fills a sequence or a dictionary; `false` if it is another.
    fn container(&mut self, instruction: u8) -> Result<bool, PickleError> {
        match instruction {
            b'}' => self.push(Object::Dictionary(Vec::new())),
            b']' | b')' | 0x8f => self.push(Object::Sequence(Vec::new())),
            b't' => {
                let items = self.pop_marked()?;
                self.push(Object::Sequence(items));
            }
            0x85..=0x87 => self.tuple(usize::from(instruction - 0x84))?,
            b'a' => {
                let item = self.pop()?;
                self.extend_sequence(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_marked()?;
                self.extend_sequence(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dictionary(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_marked()?;
                self.extend_dictionary(&items)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Does an instruction about a name, a call or the memo; `false` if it is another.
    fn reference(&mut self, instruction: u8) -> Result<bool, PickleError> {
        match instruction {
            b'c' | 0x93 => self.name(instruction)?,
            b'R' | 0x81 => self.call()?,
            b'b' => self.build()?,
            b'Q' => {
                let outside = self.pop()?;
                self.push(Object::Outside(outside));
            }
            b'q' | b'r' | 0x94 => self.remember(instruction)?,
            b'h' | b'j' => self.recall(instruction)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn senseless(&self) -> PickleError {
        PickleError::Senseless { at: self.start }
    }

    fn skip(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or(PickleError::Truncated { at: self.bytes.len() })?;
        self.at += count;
        Ok(taken)
    }

    fn pass(&mut self, count: usize) -> Result<(), PickleError> {
        self.skip(count).map(|_| ())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let taken = self.skip(N)?;
        taken.try_into().map_err(|_| PickleError::Truncated { at: self.bytes.len() })
    }

    /// A length or a key in the memo, of this many bytes.
    fn count(&mut self, width: usize) -> Result<usize, PickleError> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.skip(width)?);
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| self.senseless())
    }

    /// Text or bytes behind their length.
    fn counted(&mut self, width: usize) -> Result<&'a [u8], PickleError> {
        let count = self.count(width)?;
        self.skip(count)
    }

    /// Something behind its length whose value does not matter.
    fn skip_counted(&mut self, width: usize) -> Result<(), PickleError> {
        self.counted(width)?;
        self.push(Object::Other);
        Ok(())
    }

    fn text(&mut self, width: usize) -> Result<(), PickleError> {
        let text = String::from_utf8_lossy(self.counted(width)?).into_owned();
        self.push(Object::Text(text));
        Ok(())
    }

    fn integer(&mut self, instruction: u8) -> Result<(), PickleError> {
        let value = match instruction {
            b'J' => i32::from_le_bytes(self.take()?).into(),
            b'K' => i64::from(u8::from_le_bytes(self.take()?)),
            b'M' => u16::from_le_bytes(self.take()?).into(),
            _ => {
                let digits = self.counted(1)?;
                let negative = digits.last().is_some_and(|last| *last >= 0x80);
                let mut bytes = [if negative { 0xff } else { 0 }; 8];
                let Some(place) = bytes.get_mut(..digits.len()) else {
                    self.push(Object::Other); // a seed of a random generator, say
                    return Ok(());
                };
                place.copy_from_slice(digits);
                i64::from_le_bytes(bytes)
            }
        };
        self.push(Object::Integer(value));
        Ok(())
    }

    fn push(&mut self, object: Object) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    fn top(&self) -> Result<Place, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).unwrap_or_default();
        above.last().copied().ok_or_else(|| self.senseless())
    }

    fn pop(&mut self) -> Result<Place, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_marked(&mut self) -> Result<Vec<Place>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.senseless())?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let mut items = vec![0; count];
        for item in items.iter_mut().rev() {
            *item = self.pop()?;
        }
        self.push(Object::Sequence(items));
        Ok(())
    }

    fn top_object(&mut self) -> Result<&mut Object, PickleError> {
        let (top, senseless) = (self.top()?, self.senseless());
        self.objects.get_mut(top).ok_or(senseless)
    }

    fn extend_sequence(&mut self, items: Vec<Place>) -> Result<(), PickleError> {
        let senseless = self.senseless();
        match self.top_object()? {
            Object::Sequence(sequence) => sequence.extend(items),
            Object::Call { .. } => {} // a list with a type of its own: none holds weights
            _ => return Err(senseless),
        }
        Ok(())
    }

    fn extend_dictionary(&mut self, items: &[Place]) -> Result<(), PickleError> {
        let senseless = self.senseless();
        let (pairs, odd) = items.as_chunks::<2>();
        match self.top_object()? {
            Object::Dictionary(entries) | Object::Call { entries, .. } if odd.is_empty() => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            _ => Err(senseless),
        }
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(PickleError::Truncated { at: self.bytes.len() })?;
        self.at += length + 1;
        Ok(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    /// Module and name of something in Python.
    fn name(&mut self, instruction: u8) -> Result<(), PickleError> {
        let name = if instruction == b'c' {
            format!("{} {}", self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.objects.get(module), self.objects.get(name)) {
                (Some(Object::Text(module)), Some(Object::Text(name))) => {
                    format!("{module} {name}")
                }
                _ => return Err(self.senseless()),
            }
        };
        if !is_known(&name) {
            return Err(PickleError::Code { name });
        }
        self.push(Object::Name(name));
        Ok(())
    }

    fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Some(Object::Name(name)) = self.objects.get(callee) else {
            return Err(self.senseless());
        };
        let name = name.clone();
        self.push(Object::Call { name, arguments, entries: Vec::new(), state: None });
        Ok(())
    }

    fn build(&mut self) -> Result<(), PickleError> {
        let (become_this, senseless) = (self.pop()?, self.senseless());
        match self.top_object()? {
            Object::Call { state, .. } => {
                *state = Some(become_this);
                Ok(())
            }
            _ => Err(senseless),
        }
    }

    fn remember(&mut self, instruction: u8) -> Result<(), PickleError> {
        let key = match instruction {
            b'q' => self.count(1)?,
            b'r' => self.count(4)?,
            _ => self.memo.len(),
        };
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, instruction: u8) -> Result<(), PickleError> {
        let key = self.count(if instruction == b'h' { 1 } else { 4 })?;
        let place = *self.memo.get(&key).ok_or_else(|| self.senseless())?;
        self.stack.push(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[track_caller]
    fn check(bytes: &[u8], expected: &Result<Object, PickleError>) {
        let read = Pickle::read(bytes);
        assert_eq!(&read.map(|pickle| pickle.root().clone()), expected);
    }

    #[rstest]
    #[case::small(b"K\x07.", 7)]
    #[case::negative(b"J\xfe\xff\xff\xff.", -2)]
    #[case::long(b"\x8a\x02\xff\x00.", 255)]
    #[case::negative_long(b"\x8a\x01\xff.", -1)]
    fn numbers(#[case] bytes: &[u8], #[case] expected: i64) {
        check(bytes, &Ok(Object::Integer(expected)));
    }

    #[test]
    fn a_dictionary_that_is_filled_after_it_was_remembered_is_one() {
        let pickle = Pickle::read(b"\x80\x02}q\x00X\x01\x00\x00\x00aK\x01sh\x00\x86.").unwrap();
        let [first, second] = pickle.items(pickle.root()).unwrap();
        assert_eq!(first, second);
        let named: Vec<_> = pickle.named(first).collect();
        assert_eq!(named, [("a", &Object::Integer(1))]);
    }

    #[rstest]
    #[case::as_the_first_protocol_says_it(b"cos\nsystem\n(X\x02\x00\x00\x00lstR.", "os system")]
    #[case::from_the_stack(b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os system")]
    #[case::builtin(b"\x80\x02c__builtin__\neval\n.", "__builtin__ eval")]
    #[case::beside_the_known(
        b"\x80\x02ctorch.storage\n_load_from_bytes\n.",
        "torch.storage _load_from_bytes"
    )]
    #[case::script_in_name_only(b"\x80\x02c__torch__x\nsystem\n.", "__torch__x system")]
    fn code_is_refused(#[case] bytes: &[u8], #[case] name: &str) {
        check(bytes, &Err(PickleError::Code { name: name.to_owned() }));
    }

    #[rstest]
    #[case::empty(b"", PickleError::Truncated { at: 0 })]
    #[case::no_end(b"K\x01", PickleError::Truncated { at: 2 })]
    #[case::a_text_longer_than_all(b"X\xff\xff\xff\xffa.", PickleError::Truncated { at: 7 })]
    #[case::nothing_on_the_stack(b".", PickleError::Senseless { at: 0 })]
    #[case::no_mark(b"t.", PickleError::Senseless { at: 0 })]
    #[case::below_a_mark(b"K\x01(0.", PickleError::Senseless { at: 3 })]
    #[case::a_key_without_a_value(b"}(K\x01u.", PickleError::Senseless { at: 4 })]
    #[case::a_call_of_a_number(b"K\x01)R.", PickleError::Senseless { at: 3 })]
    #[case::never_remembered(b"h\x05.", PickleError::Senseless { at: 0 })]
    #[case::object_of_the_first_protocol(b"(ios\nsystem\n.", PickleError::Instruction { instruction: b'i', at: 1 })]
    fn nonsense_is_refused(#[case] bytes: &[u8], #[case] expected: PickleError) {
        check(bytes, &Err(expected));
    }
}
