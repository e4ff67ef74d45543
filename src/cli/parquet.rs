//! An event log as `train.parquet`, `val.parquet`, `test.parquet` and `scalars.parquet`: columns for pandas, Polars and
//! DuckDB.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use crate::base::fs::Disk;
use crate::base::{Error, Result, durable};
use crate::vis::VisEvent;

/// The kinds of events with scalars, each with a file of its own.
pub(super) const KINDS: [&str; 4] = ["train", "val", "test", "scalars"];
/// The columns before those of the scalars: whole numbers.
const WHOLE: [&str; 3] = ["step", "epoch", "iter"];
const TIME: &str = "wall_time";

/// Writes a file of each kind of events that there are.
///
/// # Errors
/// When the disk refuses.
pub(super) fn write(events: &[VisEvent], out: &Path) -> Result<()> {
    for kind in KINDS {
        let rows: Vec<&VisEvent> = events.iter().filter(|event| event.kind() == kind).collect();
        if !rows.is_empty() {
            let bytes = table(&rows).map_err(|why| Error::Other(why.into()))?;
            durable::replace(&Disk, &out.join(format!("{kind}.parquet")), &bytes)?;
        }
    }
    Ok(())
}

/// The file of these rows. A number that a row does not have is null.
fn table(rows: &[&VisEvent]) -> Result<Vec<u8>, ParquetError> {
    let scalars = names(rows);
    let mut fields = WHOLE.iter().map(|name| field(name, Physical::INT64)).collect::<Result<Vec<_>, _>>()?;
    let time = LogicalType::timestamp(true, TimeUnit::MICROS);
    let time = Type::primitive_type_builder(TIME, Physical::INT64).with_logical_type(Some(time));
    fields.push(Arc::new(time.with_repetition(Repetition::OPTIONAL).build()?));
    for name in &scalars {
        fields.push(field(&column(name), Physical::DOUBLE)?);
    }
    let schema = Type::group_type_builder("events").with_fields(fields).build()?;
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::default())?;
    let mut group = file.next_row_group()?;
    for name in WHOLE {
        fill::<Int64Type>(&mut group, rows.iter().map(|row| row.get(name)?.as_i64()))?;
    }
    let micros = |row: &&VisEvent| (row.wall_time() * 1e6).round() as i64;
    fill::<Int64Type>(&mut group, rows.iter().map(|row| Some(micros(row))))?;
    for name in &scalars {
        let value = |row: &&VisEvent| row.scalars().find(|(own, _)| own == name).map(|(_, value)| value);
        fill::<DoubleType>(&mut group, rows.iter().map(value))?;
    }
    group.close()?;
    file.into_inner()
}

/// The scalars in the order in which they first come.
fn names(rows: &[&VisEvent]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| row.scalars()) {
        if !names.iter().any(|own| own == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// What the column of a scalar is called; one of the first columns' names stands behind a slash, as in the log.
fn column(scalar: &str) -> String {
    if WHOLE.contains(&scalar) || scalar == TIME { format!("/{scalar}") } else { scalar.to_owned() }
}

fn field(name: &str, physical: Physical) -> Result<TypePtr, ParquetError> {
    let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
    Ok(Arc::new(field.build()?))
}

/// Writes the next column.
fn fill<T: DataType>(
    group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, Vec<u8>>,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let (mut there, mut known) = (Vec::new(), Vec::new());
    for value in values {
        there.push(i16::from(value.is_some()));
        known.extend(value);
    }
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(&known, Some(&there), None)?;
        column.close()?;
    }
    Ok(())
}
