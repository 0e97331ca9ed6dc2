//! One finished age file (<https://age-encryption.org/v1>) in memory: sealed to X25519 recipients, opened by identities.
//!
//! Recipients are checked before anything is sealed to them, because the age crate panics over a key with which no
//! secret can be agreed. What is opened stands in memory that is wiped.

use std::io::{Read, Write};
use std::path::Path;

use age::secrecy::{ExposeSecret, SecretString};
pub use age::x25519::{Identity, Recipient};
use zeroize::Zeroizing;

/// Longest file of identities, in bytes.
const MAX_IDENTITY_FILE: u64 = 64 * 1024;

/// Why text is no recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotARecipient {
    /// A private key: it must not be here.
    #[error(
        "is a PRIVATE key. It belongs nowhere but with its holder: take it out, and write what age-keygen -y prints"
    )]
    Private,
    /// SSH keys, plugins, post-quantum keys, garbage.
    #[error(
        "is no X25519 recipient of age (age1 and 58 lower-case letters and digits; age-keygen makes one)"
    )]
    Form,
    /// A point of low order: everybody could open what is sealed to it.
    #[error("is a recipient to whom nothing can be sealed safely (its point has a low order)")]
    LowOrder,
}

/// Reads a recipient in its one form.
pub fn recipient(text: &str) -> Result<Recipient, NotARecipient> {
    if text.to_ascii_uppercase().contains("AGE-SECRET-KEY") {
        return Err(NotARecipient::Private);
    }
    let recipient: Recipient = text.parse().map_err(|_| NotARecipient::Form)?;
    if recipient.to_string() != text {
        return Err(NotARecipient::Form);
    }
    let point = point(text).ok_or(NotARecipient::Form)?;
    // ring refuses what the age crate panics over: an agreement on zero.
    let agreed = ring::agreement::EphemeralPrivateKey::generate(
        &ring::agreement::X25519,
        &ring::rand::SystemRandom::new(),
    )
    .and_then(|own| {
        let their = ring::agreement::UnparsedPublicKey::new(&ring::agreement::X25519, point);
        ring::agreement::agree_ephemeral(own, &their, |_| ())
    });
    agreed.map_err(|_| NotARecipient::LowOrder)?;
    Ok(recipient)
}

/// The recipient whose point this is: for keys that stand elsewhere than in an age file.
pub fn recipient_at(point: &[u8; 32]) -> Result<Recipient, NotARecipient> {
    recipient(&text(point))
}

/// A recipient's Bech32 text (BIP 173).
fn text(point: &[u8; 32]) -> String {
    let mut values = Vec::with_capacity(58);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in point {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            values.push(bits >> count & 31);
        }
    }
    // 256 bits are 51 letters and one more bit.
    values.push(bits << (5 - count) & 31);
    let prefix = PREFIX.bytes().map(u32::from);
    let expanded = prefix
        .clone()
        .map(|c| c >> 5)
        .chain([0])
        .chain(prefix.map(|c| c & 31));
    let mut sum = 1;
    for value in expanded.chain(values.iter().copied()).chain([0; CHECKSUM]) {
        const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        let top: u32 = sum >> 25;
        sum = (sum & 0x1ff_ffff) << 5 ^ value;
        for (bit, generator) in GENERATOR.iter().enumerate() {
            sum ^= generator * (top >> bit & 1);
        }
    }
    let checksum = (0..CHECKSUM).rev().map(|place| (sum ^ 1) >> (5 * place) & 31);
    let letters = values.iter().copied().chain(checksum);
    let letter = |value: u32| usize::try_from(value).ok().and_then(|value| LETTERS.get(value));
    let data = letters.filter_map(letter).map(|letter| char::from(*letter));
    format!("{PREFIX}1{}", data.collect::<String>())
}

/// What recipients begin with, before the 1.
const PREFIX: &str = "age";
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Letters at the end.
const CHECKSUM: usize = 6;

/// The 32 bytes in a recipient's Bech32 text (BIP 173), whose checksum was verified.
fn point(text: &str) -> Option<[u8; 32]> {
    let data = text.strip_prefix(PREFIX)?.strip_prefix('1')?.as_bytes();
    let data = data.get(..data.len().checked_sub(CHECKSUM)?)?;
    let (mut bits, mut count) = (0_u32, 0);
    let mut bytes = Vec::with_capacity(32);
    for letter in data {
        let value = LETTERS.iter().position(|known| known == letter)?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    bytes.try_into().ok()
}

/// Why nothing was sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the data cannot be encrypted: {0}")]
pub struct SealError(String);

/// Seals data to recipients: one complete age file, after `room` bytes that the caller will fill in.
pub fn seal<'a>(
    recipients: impl IntoIterator<Item = &'a Recipient>,
    plaintext: &[u8],
    room: usize,
) -> Result<Vec<u8>, SealError> {
    let recipients = recipients
        .into_iter()
        .map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|e| SealError(e.to_string()))?;
    // Header, tags and the padding that may follow; more recipients only cost a copy.
    let mut file = Vec::with_capacity(room + plaintext.len() + plaintext.len() / 4096 + 2048);
    file.resize(room, 0);
    let io = |e: std::io::Error| SealError(e.to_string());
    let mut writer = encryptor.wrap_output(&mut file).map_err(io)?;
    writer.write_all(plaintext).map_err(io)?;
    writer.finish().map_err(io)?;
    Ok(file)
}

/// Why an age file was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed to others.
    #[error("is not encrypted to this identity")]
    NotForUs,
    /// Changed, cut, or no age file at all.
    #[error("is damaged, or no age file")]
    Damaged,
}

/// Opens a complete age file.
pub fn open(file: &[u8], identities: &[Identity]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    open_with(
        file,
        identities.iter().map(|identity| identity as &dyn age::Identity),
    )
}

/// The same with identities that are held elsewhere.
pub fn open_with<'a>(
    file: &[u8],
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let decryptor = age::Decryptor::new_buffered(file).map_err(|_| OpenError::Damaged)?;
    let mut reader = decryptor.decrypt(identities).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => OpenError::NotForUs,
        _ => OpenError::Damaged,
    })?;
    // Never longer than the file: a vector that grew would leave plaintext behind.
    let mut plaintext = Zeroizing::new(vec![0; file.len()]);
    let mut length = 0;
    while let Some(rest) = plaintext.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest).map_err(|_| OpenError::Damaged)? {
            0 => break,
            read => length += read,
        }
    }
    plaintext.truncate(length);
    Ok(plaintext)
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// Nothing in it is a key, or something in it is none.
    #[error("{0} is no file of age identities (AGE-SECRET-KEY-1…, one a line, as age-keygen writes it)")]
    Form(String),
    /// As `age -p` makes them.
    #[error("{0} is itself encrypted: decrypt it first with age -d, to where only you can read it")]
    Encrypted(String),
}

/// Reads a file of identities as `age-keygen` writes it: one a line, and `#` comments.
pub fn identities(path: &Path) -> Result<Vec<Identity>, IdentityError> {
    let name = path.display().to_string();
    let read = || {
        // All of it at once: a vector that grows leaves its old bytes behind.
        let limit = usize::try_from(MAX_IDENTITY_FILE).unwrap_or(usize::MAX);
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
        std::fs::File::open(path)?
            .take(MAX_IDENTITY_FILE)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| IdentityError::Io {
        path: name.clone(),
        error,
    })?;
    if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE") {
        return Err(IdentityError::Encrypted(name));
    }
    parse_identities(&bytes).ok_or(IdentityError::Form(name))
}

/// The identities in the text of such a file; none where there is none, or where a line is something else.
pub fn parse_identities(text: &[u8]) -> Option<Vec<Identity>> {
    let text = std::str::from_utf8(text).ok()?;
    let identities: Option<Vec<Identity>> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.parse().ok())
        .collect();
    identities.filter(|found| !found.is_empty())
}

/// An identity as text, to be wiped.
pub fn identity_text(identity: &Identity) -> Zeroizing<String> {
    let text: SecretString = identity.to_string();
    let exposed = text.expose_secret();
    let mut copy = Zeroizing::new(String::with_capacity(exposed.len()));
    copy.push_str(exposed);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_recipient_has_one_form() {
        let text = Identity::generate().to_public().to_string();
        assert_eq!(recipient(&text).unwrap().to_string(), text);
        assert_eq!(recipient_at(&point(&text).unwrap()).unwrap().to_string(), text);
        for bad in [
            String::new(),
            text.to_uppercase(),
            format!("{text} "),
            text[..60].to_owned(),
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN a".to_owned(),
            "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t".to_owned(),
        ] {
            assert_eq!(recipient(&bad).err(), Some(NotARecipient::Form), "{bad}");
        }
    }

    #[test]
    fn a_private_key_among_recipients_is_named_and_not_printed() {
        let text = identity_text(&Identity::generate());
        let error = recipient(&text).err().unwrap();
        assert_eq!(error, NotARecipient::Private);
        assert!(!error.to_string().contains(text.as_str()));
        assert_eq!(
            recipient(&text.to_lowercase()).err(),
            Some(NotARecipient::Private)
        );
    }

    #[test]
    fn a_recipient_of_low_order_is_refused_and_no_panic() {
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        for bytes in [[0; 32], one, minus_one] {
            assert_eq!(recipient_at(&bytes).err(), Some(NotARecipient::LowOrder));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_file_is_noticed() {
        let identity = Identity::generate();
        let file = seal([&identity.to_public()], b"data", 0).unwrap();
        let keys = [identity];
        assert_eq!(open(&file, &keys).unwrap().as_slice(), b"data");
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&flipped, &keys).is_err(), "bit {bit}");
        }
        for length in 0..file.len() {
            assert!(open(&file[..length], &keys).is_err(), "{length} bytes");
        }
        assert_eq!(
            open(&file, &[Identity::generate()]).err(),
            Some(OpenError::NotForUs)
        );
    }

    #[test]
    fn files_of_identities_are_read_as_age_keygen_writes_them() {
        let key = Identity::generate();
        let secret = identity_text(&key);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.txt");
        let text = format!(
            "# created: now\n# public key: {}\n{}\n",
            key.to_public(),
            secret.as_str()
        );
        std::fs::write(&path, &text).unwrap();
        let read = identities(&path).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].to_public(), key.to_public());
        std::fs::write(&path, format!("{text}nonsense {}\n", secret.as_str())).unwrap();
        let error = identities(&path).err().unwrap().to_string();
        assert!(
            error.contains("key.txt") && !error.contains(secret.as_str()),
            "{error}"
        );
        std::fs::write(&path, "age-encryption.org/v1\n").unwrap();
        assert!(matches!(identities(&path), Err(IdentityError::Encrypted(_))));
        std::fs::write(&path, "# nothing\n").unwrap();
        assert!(matches!(identities(&path), Err(IdentityError::Form(_))));
    }

    proptest! {
        #[test]
        fn any_point_has_the_text_that_age_reads(bytes in any::<[u8; 32]>()) {
            let read: Recipient = text(&bytes).parse().unwrap();
            prop_assert_eq!(point(&read.to_string()), Some(bytes));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_sealed_is_opened(data in proptest::collection::vec(any::<u8>(), 0..200_000), room in 0_usize..600) {
            let identity = Identity::generate();
            let file = seal([&identity.to_public()], &data, room).unwrap();
            prop_assert!(file[..room].iter().all(|byte| *byte == 0));
            prop_assert_eq!(&*open(&file[room..], &[identity]).unwrap(), &data);
        }
    }
}
