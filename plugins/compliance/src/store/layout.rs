//! How files lie in a store: a file that grows is there in pieces, each named by what it begins with and by its place in
//! the file. Where one ends the next begins.
//!
//! ```text
//! tracks/<n>-<medium>/<first sequence>-<offset>        a part of tracks/<n>-<medium>.tar
//! manifest/<first line>-<offset>
//! log/<first entry>-<offset>
//! ```

use super::bucket::Object;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The object's name.
    pub name: String,
    /// Number of the first member, line or entry in it.
    pub first: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Piece {
    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// The name of a piece of a file whose pieces lie in this folder.
pub fn name(folder: &str, first: u64, offset: u64) -> String {
    format!("{folder}/{first:010}-{offset:015}")
}

/// The pieces of a file, in order; an object in their folder that is none comes back as it is.
pub fn pieces<'a>(folder: &str, objects: impl IntoIterator<Item = &'a Object>) -> (Vec<Piece>, Vec<String>) {
    let (mut pieces, mut others) = (Vec::new(), Vec::new());
    for object in objects {
        match piece(folder, object) {
            Some(piece) => pieces.push(piece),
            None => others.push(object.name.clone()),
        }
    }
    pieces.sort_unstable_by_key(|piece: &Piece| piece.offset);
    (pieces, others)
}

fn piece(folder: &str, object: &Object) -> Option<Piece> {
    let (first, offset) = object
        .name
        .strip_prefix(folder)?
        .strip_prefix('/')?
        .split_once('-')?;
    let piece = Piece {
        name: object.name.clone(),
        first: first.parse().ok()?,
        offset: offset.parse().ok()?,
        bytes: object.bytes,
    };
    // One form only.
    (name(folder, piece.first, piece.offset) == object.name).then_some(piece)
}

/// How far the pieces go from the file's beginning without a hole.
pub fn covered(pieces: &[Piece]) -> Result<u64, String> {
    let mut end = 0;
    for piece in pieces {
        if piece.offset != end {
            return Err(format!(
                "{} does not begin where the piece before it ends ({end})",
                piece.name
            ));
        }
        end = piece.end();
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn object(name: &str, bytes: u64) -> Object {
        let name = name.to_owned();
        Object { name, bytes }
    }

    #[test]
    fn pieces_follow_each_other_and_a_hole_is_named() {
        let objects = [
            object(&name("manifest", 7, 900), 100),
            object(&name("manifest", 0, 0), 900),
            object("manifest/0000000009-1000", 5),
            object("manifest/x", 5),
        ];
        let (pieces, others) = pieces("manifest", &objects);
        assert_eq!(others, ["manifest/0000000009-1000", "manifest/x"]);
        assert_eq!(pieces[1].name, "manifest/0000000007-000000000000900");
        assert_eq!(covered(&pieces), Ok(1000));
        assert!(covered(&pieces[1..]).unwrap_err().contains("0000000007"));
        assert_eq!(covered(&[]), Ok(0));
    }

    #[test]
    fn names_sort_like_what_they_name() {
        let mut names =
            [(10, 2_000_000), (9, 999), (1_234_567, 5_000_000_000)].map(|(a, b)| name("log", a, b));
        let sorted = [names[1].clone(), names[0].clone(), names[2].clone()];
        names.sort();
        assert_eq!(names, sorted);
    }
}
