//! Pickles of plain data and NumPy's arrays, read without running anything. A pickle is a program for a machine with a
//! stack; what it would call is not called, but kept with what it is given.

use std::borrow::Cow;
use std::collections::HashMap;

use ndarray::{ArrayView, IxDyn, ShapeBuilder};

/// A value, by its number.
type Id = usize;

/// More values than any batch of pictures has, of which each takes some bytes.
const MOST_VALUES: usize = 1 << 22;

#[derive(Debug, Clone)]
enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// Text or bytes: Python 2 does not tell them apart.
    Bytes(&'a [u8]),
    /// Bytes that stood there as text.
    Decoded(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name of Python's: module and name.
    Global(&'a [u8], &'a [u8]),
    /// What a call would give: what is called, with what, and the state that is put into the result.
    Call {
        of: Id,
        with: Id,
        state: Option<Id>,
    },
}

/// What a pickle holds.
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle, of protocol 2 to 5.
    ///
    /// # Errors
    /// What does not belong into plain data, and where.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine { file, ..Machine::default() };
        loop {
            let at = machine.at;
            let op = machine.byte().ok_or("it ends before its end mark")?;
            if op == b'.' {
                let root = machine.stack.pop().ok_or("it holds nothing")?;
                return Ok(Self { values: machine.values, root });
            }
            machine.step(op).ok_or_else(|| {
                format!("byte {at}, {op:#04x}, is no plain data, or it is cut off{}", hint(file, op))
            })?;
            if machine.values.len().max(machine.stack.len()).max(machine.marks.len()) > MOST_VALUES {
                return Err(format!("it holds more than {MOST_VALUES} values"));
            }
        }
    }

    fn value(&self, id: Id) -> &Value<'a> {
        self.values.get(id).unwrap_or(&Value::None)
    }

    /// What the outermost mapping has under this name.
    fn entry(&self, name: &str) -> Option<&Value<'a>> {
        let Value::Dict(entries) = self.value(self.root) else { return None };
        let named = |id: Id| matches!(self.value(id), Value::Bytes(key) if *key == name.as_bytes());
        entries.iter().find(|(key, _)| named(*key)).map(|(_, value)| self.value(*value))
    }

    fn int(&self, id: Id) -> Option<i64> {
        match self.value(id) {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole numbers of the list of this name.
    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        let Value::List(items) = self.entry(name)? else { return None };
        items.iter().map(|id| self.int(*id)).collect()
    }

    /// What would have to be called for the value of this name, or for all of them.
    pub(super) fn call(&self, name: &str) -> Option<String> {
        let Value::Call { of, .. } = self.entry(name).unwrap_or_else(|| self.value(self.root)) else {
            return None;
        };
        let Value::Global(module, own) = self.value(*of) else { return None };
        let [module, own] =
            [module, own].map(|part| String::from_utf8_lossy(part).escape_debug().to_string());
        Some(format!("{module}.{own}"))
    }

    fn bytes(&self, id: Id) -> Option<&[u8]> {
        match self.value(id) {
            Value::Bytes(bytes) => Some(bytes),
            Value::Decoded(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn sides(&self, shape: Id) -> Option<Vec<usize>> {
        let Value::Tuple(shape) = self.value(shape) else { return None };
        shape.iter().map(|id| self.int(*id).and_then(|side| usize::try_from(side).ok())).collect()
    }

    /// The shape and the values of the array of bytes, row by row, of this name.
    pub(super) fn array(&self, name: &str) -> Option<(Vec<usize>, Cow<'_, [u8]>)> {
        let Value::Call { of, with, state } = self.entry(name)? else { return None };
        let Some(state) = state else { return self.array_of_buffer(*of, *with) };
        let reconstructs = matches!(self.value(*of), Value::Global(module, b"_reconstruct") if module.starts_with(b"numpy."));
        // Version, shape, type, whether columns come first, values.
        let Value::Tuple(parts) = self.value(*state) else { return None };
        let &[_, shape, kind, by_columns, values] = parts.as_slice() else { return None };
        let Value::Bool(by_columns) = self.value(by_columns) else { return None };
        if reconstructs && self.is_u1(kind) { self.in_rows(shape, values, *by_columns) } else { None }
    }

    /// The same as NumPy writes it since protocol 5: values, type, shape, order.
    fn array_of_buffer(&self, of: Id, with: Id) -> Option<(Vec<usize>, Cow<'_, [u8]>)> {
        let Value::Global(module, b"_frombuffer") = self.value(of) else { return None };
        let Value::Tuple(parts) = self.value(with) else { return None };
        let &[values, kind, shape, order, ..] = parts.as_slice() else { return None };
        let by_columns = match self.bytes(order)? {
            b"C" => false,
            b"F" => true,
            _ => return None,
        };
        let is_plain = module.starts_with(b"numpy.") && self.is_u1(kind);
        if is_plain { self.in_rows(shape, values, by_columns) } else { None }
    }

    /// The shape and the values of an array, which may be stored column by column.
    fn in_rows(&self, shape: Id, values: Id, by_columns: bool) -> Option<(Vec<usize>, Cow<'_, [u8]>)> {
        let (sides, values) = (self.sides(shape)?, self.bytes(values)?);
        if !by_columns {
            return Some((sides, values.into()));
        }
        let array = ArrayView::from_shape(IxDyn(&sides).f(), values).ok()?;
        Some((sides, array.iter().copied().collect::<Vec<_>>().into()))
    }

    /// Whether it is NumPy's type of bytes without a sign.
    fn is_u1(&self, id: Id) -> bool {
        let Value::Call { of, with, .. } = self.value(id) else { return false };
        let Value::Tuple(with) = self.value(*with) else { return false };
        let first = with.first().map(|id| self.value(*id));
        matches!(self.value(*of), Value::Global(b"numpy", b"dtype"))
            && matches!(first, Some(Value::Bytes(b"u1" | b"|u1")))
    }
}

/// What to do about a pickle that cannot be read.
fn hint(file: &[u8], op: u8) -> &'static str {
    match op {
        // INST, OBJ, NEWOBJ, NEWOBJ_EX, PERSID and BINPERSID make objects of a class.
        b'i' | b'o' | 0x81 | 0x92 | b'P' | b'Q' => {
            ": it asks for a call, and nothing is called. Write a dict of lists and NumPy's arrays alone"
        }
        // Protocols 0 and 1 do not say which they are.
        _ if file.first() != Some(&0x80) => {
            ": no protocol of 2 to 5 begins like this. Write it anew by `pickle.dump(…, protocol=4)`"
        }
        _ => "",
    }
}

#[derive(Default)]
struct Machine<'a> {
    file: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let bytes = self.file.get(self.at..)?.get(..n)?;
        self.at += n;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn word(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// As many bytes as the next ones count, of which there are 1, 4 or 8.
    fn counted(&mut self, width: usize) -> Option<&'a [u8]> {
        let mut count = [0; 8];
        count.get_mut(..width)?.copy_from_slice(self.take(width)?);
        self.take(usize::try_from(u64::from_le_bytes(count)).ok()?)
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let len = self.file.get(self.at..)?.iter().position(|byte| *byte == b'\n')?;
        self.take(len + 1).and_then(|line| line.get(..len))
    }

    fn push(&mut self, value: Value<'a>) -> Option<()> {
        self.stack.push(self.values.len());
        self.values.push(value);
        Some(())
    }

    /// What lies above the last mark.
    fn marked(&mut self) -> Option<Vec<Id>> {
        let height = self.marks.pop()?;
        (height <= self.stack.len()).then(|| self.stack.split_off(height))
    }

    fn last(&mut self) -> Option<&mut Value<'a>> {
        self.values.get_mut(*self.stack.last()?)
    }

    fn append(&mut self, items: Vec<Id>) -> Option<()> {
        let Value::List(list) = self.last()? else { return None };
        list.extend(items);
        Some(())
    }

    fn set(&mut self, items: &[Id]) -> Option<()> {
        let Value::Dict(entries) = self.last()? else { return None };
        let (pairs, []) = items.as_chunks::<2>() else { return None };
        entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Some(())
    }

    fn tuple(&mut self, n: usize) -> Option<()> {
        let items = self.stack.split_off(self.stack.len().checked_sub(n)?);
        self.push(Value::Tuple(items))
    }

    fn remember(&mut self, key: u32) -> Option<()> {
        self.memo.insert(key, *self.stack.last()?);
        Some(())
    }

    fn recall(&mut self, key: u32) -> Option<()> {
        self.stack.push(*self.memo.get(&key)?);
        Some(())
    }

    /// What a call gives where that is known without it: Python 3 writes bytes for protocol 2 as text, each as the
    /// letter of its number, to be encoded again.
    fn called(&self, of: Id, with: Id) -> Option<Value<'a>> {
        let Value::Global(b"_codecs", b"encode") = self.values.get(of)? else { return None };
        let Value::Tuple(with) = self.values.get(with)? else { return None };
        let &[text, name] = with.as_slice() else { return None };
        let Value::Bytes(b"latin1") = self.values.get(name)? else { return None };
        let Value::Bytes(text) = self.values.get(text)? else { return None };
        if text.is_ascii() {
            return Some(Value::Bytes(text));
        }
        let letters = std::str::from_utf8(text).ok()?.chars();
        letters.map(|letter| u8::try_from(letter).ok()).collect::<Option<_>>().map(Value::Decoded)
    }

    /// One instruction, by the names that Python's `pickletools` gives it.
    fn step(&mut self, op: u8) -> Option<()> {
        match op {
            // PROTO and FRAME say nothing about values.
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Some(())
            }
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool(op == 0x88)),
            b'K' => self.byte().and_then(|value| self.push(Value::Int(value.into()))),
            b'M' => {
                let value = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
                self.push(Value::Int(value.into()))
            }
            b'J' => self.word().and_then(|value| self.push(Value::Int(value.cast_signed().into()))),
            // BINSTRING, BINUNICODE and BINBYTES, their short forms, and those of 8 bytes; BYTEARRAY8.
            b'T' | b'X' | b'B' => self.counted(4).and_then(|bytes| self.push(Value::Bytes(bytes))),
            b'U' | b'C' | 0x8c => self.counted(1).and_then(|bytes| self.push(Value::Bytes(bytes))),
            0x8d | 0x8e | 0x96 => self.counted(8).and_then(|bytes| self.push(Value::Bytes(bytes))),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b'a' => self.stack.pop().and_then(|item| self.append(vec![item])),
            b'e' => self.marked().and_then(|items| self.append(items)),
            b's' => {
                let items = self.stack.split_off(self.stack.len().checked_sub(2)?);
                self.set(&items)
            }
            b'u' => self.marked().and_then(|items| self.set(&items)),
            b't' => self.marked().and_then(|items| self.push(Value::Tuple(items))),
            0x85..=0x87 => self.tuple(usize::from(op - 0x84)),
            b'q' => self.byte().and_then(|key| self.remember(key.into())),
            b'r' => self.word().and_then(|key| self.remember(key)),
            0x94 => u32::try_from(self.memo.len()).ok().and_then(|key| self.remember(key)),
            b'h' => self.byte().and_then(|key| self.recall(key.into())),
            b'j' => self.word().and_then(|key| self.recall(key)),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name))
            }
            0x93 => {
                let (name, module) = (self.stack.pop()?, self.stack.pop()?);
                match (self.values.get(module)?.clone(), self.values.get(name)?.clone()) {
                    (Value::Bytes(module), Value::Bytes(name)) => self.push(Value::Global(module, name)),
                    _ => None,
                }
            }
            // REDUCE would call, BUILD would set a state.
            b'R' => {
                let (with, of) = (self.stack.pop()?, self.stack.pop()?);
                let known = self.called(of, with);
                self.push(known.unwrap_or(Value::Call { of, with, state: None }))
            }
            b'b' => {
                let given = self.stack.pop()?;
                let Value::Call { state, .. } = self.last()? else { return None };
                *state = Some(given);
                Some(())
            }
            _ => None,
        }
    }
}
