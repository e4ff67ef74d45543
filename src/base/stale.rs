//! Memory that is handed out with whatever it last held. Who takes such a buffer writes all of it before reading any:
//! in debug builds, and so in all tests, [`hand_out`] destroys what the buffer held, so that a forgotten element
//! shows.

use super::is_shapes_only;

/// The last thing that happens to a buffer before it is handed out as stale.
///
/// Debug builds fill it with one byte: 0xff, which is NaN for a float and out of range for an index. The environment
/// variable
/// `SHANTY_STALE` names another byte by two hexadecimal digits, or is `keep` to leave the buffer as it is; tests
/// compare the runs. Release builds leave it, and so does a step of which only shapes count: it writes to no buffer.
#[inline]
pub fn hand_out<T: bytemuck::Pod>(buffer: &mut [T]) {
    if cfg!(debug_assertions)
        && !is_shapes_only()
        && let Some(byte) = pattern()
    {
        bytemuck::cast_slice_mut::<T, u8>(buffer).fill(byte);
    }
}

fn pattern() -> Option<u8> {
    static PATTERN: std::sync::OnceLock<Option<u8>> = std::sync::OnceLock::new();
    *PATTERN.get_or_init(|| match std::env::var("SHANTY_STALE").as_deref() {
        Ok("keep") => None,
        Ok(digits) => Some(u8::from_str_radix(digits, 16).unwrap_or(0xff)),
        Err(_) => Some(0xff),
    })
}
