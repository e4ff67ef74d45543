//! The files of pictures that a run keeps.

use xxhash_rust::xxh3::xxh3_64;

/// How one begins.
pub(super) const BEGIN: &[u8] = b"\x89PNG\r\n";

/// Width and height; none of what is no PNG file.
pub(super) fn size(bytes: &[u8]) -> Option<[u32; 2]> {
    let side = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    bytes.starts_with(BEGIN).then(|| Some([side(16)?, side(20)?]))?
}

/// A name as that of a file. What does not fit is cut or replaced; a digest then tells two such names apart.
pub(super) fn file_name(name: &str) -> String {
    const LONGEST: usize = 120;
    let is_plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
    let mut plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    if plain.starts_with('.') {
        plain.replace_range(..1, "_");
    }
    plain.truncate(plain.floor_char_boundary(LONGEST));
    if plain == name { plain } else { format!("{plain}_{:08x}", xxh3_64(name.as_bytes()) as u32) }
}
