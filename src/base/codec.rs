//! State as JSON that loses nothing: JSON has no NaN and no infinity, so those numbers are written as marked texts.
//!
//! | value | in `state.json` |
//! |---|---|
//! | a finite float, an integer of 64 bits | a JSON number that reads back to the same bits |
//! | NaN, infinities | `"number:nan"`, `"number:inf"`, `"number:-inf"` |
//! | a NaN with other bits than the usual | `"number:0x7ff8000000000001"` |
//! | bytes, a key of a map that is no text | `"bytes:00ff"`, `"number:7"`, `"bool:true"` |
//! | a text that begins like one of these | `"text:"` and the text |
//!
//! Types of any shape come through, because serde first turns them into a [`ciborium::Value`], whose floats are total.

use ciborium::Value as Tree;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Number, Value};

use super::BoxError;

const MARKS: [&str; 4] = ["number:", "bytes:", "bool:", "text:"];

/// `state` as JSON from which [`from_json`] makes the same state, bit for bit.
///
/// # Errors
/// What the type's own `Serialize` says; an integer beyond 64 bits; a map whose keys are lists or maps.
pub fn to_json(state: &impl Serialize) -> Result<Value, BoxError> {
    encode(Tree::serialized(state)?)
}

/// The state that [`to_json`] wrote.
///
/// # Errors
/// When it was written by another type.
pub fn from_json<T: DeserializeOwned>(json: &Value) -> Result<T, BoxError> {
    Ok(decode(json)?.deserialized()?)
}

/// Whether a state can be read back from what was written: asked before it counts as saved.
///
/// # Errors
/// The first value that is not as [`to_json`] writes it.
pub fn check(json: &Value) -> Result<(), BoxError> {
    decode(json).map(drop)
}

fn encode(tree: Tree) -> Result<Value, BoxError> {
    Ok(match tree {
        Tree::Null => Value::Null,
        Tree::Bool(b) => Value::Bool(b),
        Tree::Integer(n) => Value::Number(integer(n.into())?),
        Tree::Float(x) => Number::from_f64(x).map_or_else(|| marked_float(x).into(), Value::Number),
        Tree::Text(text) => if mark(&text).is_some() { format!("text:{text}") } else { text }.into(),
        Tree::Bytes(bytes) => {
            bytes.iter().fold("bytes:".to_owned(), |text, byte| text + &format!("{byte:02x}")).into()
        }
        Tree::Array(items) => Value::Array(items.into_iter().map(encode).collect::<Result<_, _>>()?),
        Tree::Map(entries) => {
            let entry = |(key, value)| Ok::<_, BoxError>((encode_key(key)?, encode(value)?));
            Value::Object(entries.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        _ => return Err("an integer beyond 64 bits cannot be kept".into()),
    })
}

fn integer(n: i128) -> Result<Number, BoxError> {
    let unsigned = u64::try_from(n).map(Number::from);
    Ok(unsigned.or_else(|_| i64::try_from(n).map(Number::from))?)
}

fn marked_float(x: f64) -> String {
    match x {
        f64::INFINITY => "number:inf".into(),
        f64::NEG_INFINITY => "number:-inf".into(),
        _ if x.to_bits() == f64::NAN.to_bits() => "number:nan".into(),
        _ => format!("number:0x{:016x}", x.to_bits()),
    }
}

/// Keys of JSON are texts: others are marked.
fn encode_key(key: Tree) -> Result<String, BoxError> {
    match encode(key)? {
        Value::String(text) => Ok(text),
        Value::Number(n) => Ok(format!("number:{n}")),
        Value::Bool(b) => Ok(format!("bool:{b}")),
        other => Err(format!("{other} cannot be the key of a map in a checkpoint").into()),
    }
}

fn decode(json: &Value) -> Result<Tree, BoxError> {
    Ok(match json {
        Value::Null => Tree::Null,
        Value::Bool(b) => Tree::Bool(*b),
        Value::Number(n) => number(n)?,
        Value::String(text) => decode_text(text)?,
        Value::Array(items) => Tree::Array(items.iter().map(decode).collect::<Result<_, _>>()?),
        Value::Object(entries) => {
            let entry =
                |(key, value): (&String, &Value)| Ok::<_, BoxError>((decode_text(key)?, decode(value)?));
            Tree::Map(entries.iter().map(entry).collect::<Result<_, _>>()?)
        }
    })
}

fn number(n: &Number) -> Result<Tree, BoxError> {
    let whole = n.as_u64().map(Tree::from).or_else(|| n.as_i64().map(Tree::from));
    whole.or_else(|| n.as_f64().map(Tree::Float)).ok_or_else(|| format!("{n} is no number of 64 bits").into())
}

fn decode_text(text: &str) -> Result<Tree, BoxError> {
    let unknown = || format!("`{text}` is not how a checkpoint writes a value");
    let Some((mark, rest)) = mark(text) else { return Ok(Tree::Text(text.to_owned())) };
    Ok(match (mark, rest) {
        ("text:", rest) => Tree::Text(rest.to_owned()),
        ("bool:", rest) => Tree::Bool(rest.parse()?),
        ("bytes:", rest) => Tree::Bytes(from_hex(rest).ok_or_else(unknown)?),
        (_, "nan") => Tree::Float(f64::NAN),
        (_, "inf") => Tree::Float(f64::INFINITY),
        (_, "-inf") => Tree::Float(f64::NEG_INFINITY),
        (_, rest) => match rest.strip_prefix("0x") {
            Some(bits) => Tree::Float(f64::from_bits(u64::from_str_radix(bits, 16).map_err(|_| unknown())?)),
            None => number(&rest.parse().map_err(|_| unknown())?)?,
        },
    })
}

fn mark(text: &str) -> Option<(&'static str, &str)> {
    MARKS.into_iter().find_map(|mark| Some((mark, text.strip_prefix(mark)?)))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}
