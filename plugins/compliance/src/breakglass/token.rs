//! A custodian's key on a PKCS#11 token: an X25519 key that shares are sealed to, and an Ed25519 key that signs decisions.
//! Neither leaves the token. It does the two things that need them, C_DeriveKey (CKM_ECDH1_DERIVE) and C_Sign (CKM_EDDSA);
//! what age does around the first is done here.
//!
//! The secret that the token agrees on for one share comes into this process's memory: whoever has it has that share and
//! nothing else.

use std::cell::RefCell;
use std::path::PathBuf;

use age::DecryptError;
use age::x25519::Recipient;
use age_core::format::{FileKey, Stanza};
use age_core::primitives::{aead_decrypt, hkdf};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::custodian::{CustodianKey, KeyError};
use crate::access::only_its_owner_reads;
use crate::age_file::{self, recipient_at};
use crate::signing::{PublicKey, Signature, to_be_signed};

/// Labels of the two key pairs.
const SHARES: &str = "gst-e2ee custodian shares";
const DECISIONS: &str = "gst-e2ee custodian decisions";

/// Object identifiers (RFC 8410 §3), as CKA_EC_PARAMS has them.
const X25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x6e];
const ED25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// Longest PIN file, in bytes.
const MAX_PIN: u64 = 1024;

/// Where a token is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The PKCS#11 module: a shared library of whoever made the token.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// A file with the user's PIN, that nobody but its owner can read.
    pub pin_file: PathBuf,
}

/// A custodian's key on a token.
pub struct TokenKey {
    session: Session,
    agree: ObjectHandle,
    sign: ObjectHandle,
    point: [u8; 32],
    recipient: Recipient,
    signing: PublicKey,
}

fn failed(what: &str) -> impl FnOnce(cryptoki::error::Error) -> KeyError {
    let what = what.to_owned();
    move |error| KeyError::Use(format!("{what}: {error}"))
}

/// Opens the token and logs in.
fn log_in(place: &Place) -> Result<(Pkcs11, Slot, Session), KeyError> {
    let module = place.module.display();
    let pkcs11 = Pkcs11::new(&place.module).map_err(failed(&format!("{module} is no PKCS#11 module")))?;
    pkcs11
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(failed(&format!("{module} does not start")))?;
    let slots = pkcs11
        .get_slots_with_token()
        .map_err(failed("the tokens cannot be listed"))?;
    let mut with_label = slots.into_iter().filter(|slot| {
        let info = pkcs11.get_token_info(*slot);
        info.is_ok_and(|info| info.label().trim_end() == place.token)
    });
    let (slot, another) = (with_label.next(), with_label.next());
    let slot = slot.filter(|_| another.is_none()).ok_or_else(|| {
        KeyError::Use(format!(
            "there is not exactly one token with the label {}",
            place.token
        ))
    })?;
    let session = pkcs11
        .open_rw_session(slot)
        .map_err(failed("the token does not open"))?;
    only_its_owner_reads(&place.pin_file)?;
    let read = crate::bundle::read_bounded(&place.pin_file, MAX_PIN).map(Zeroizing::new);
    let pin = read.map_err(|error| KeyError::Use(format!("{}: {error}", place.pin_file.display())))?;
    let pin = std::str::from_utf8(&pin)
        .map_err(|_| KeyError::Use(format!("{} is no PIN", place.pin_file.display())))?;
    let pin: AuthPin = pin.trim_end_matches(['\r', '\n']).into();
    session
        .login(UserType::User, Some(&pin))
        .map_err(failed("the token refuses the PIN"))?;
    Ok((pkcs11, slot, session))
}

/// Makes a custodian's key pairs on a token that has none. They cannot be copied from it.
pub fn make(place: &Place) -> Result<TokenKey, KeyError> {
    let (pkcs11, slot, session) = log_in(place)?;
    for label in [SHARES, DECISIONS] {
        let there = session
            .find_objects(&[Attribute::Label(label.into())])
            .map_err(failed("the token cannot be searched"))?;
        if !there.is_empty() {
            return Err(KeyError::Use(
                "the token has a custodian's key already: it stays what it is".to_owned(),
            ));
        }
    }
    let known = pkcs11
        .get_mechanism_list(slot)
        .map_err(failed("the token does not say what it can"))?;
    // PKCS#11 3.0 has a mechanism of its own for X25519; before that, one does for both curves.
    let montgomery = match known.contains(&MechanismType::ECC_MONTGOMERY_KEY_PAIR_GEN) {
        true => Mechanism::EccMontgomeryKeyPairGen,
        false => Mechanism::EccEdwardsKeyPairGen,
    };
    let pairs = [
        (SHARES, X25519, montgomery, Attribute::Derive(true)),
        (
            DECISIONS,
            ED25519,
            Mechanism::EccEdwardsKeyPairGen,
            Attribute::Sign(true),
        ),
    ];
    for (label, curve, mechanism, may) in pairs {
        let label = Attribute::Label(label.into());
        let public = [
            Attribute::Token(true),
            Attribute::EcParams(curve.into()),
            label.clone(),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            label,
            may,
        ];
        session
            .generate_key_pair(&mechanism, &public, &private)
            .map_err(failed(
                "the token makes no such key (X25519 and Ed25519 are needed)",
            ))?;
    }
    TokenKey::of(session)
}

impl TokenKey {
    /// The custodian's key on a token.
    pub fn open(place: &Place) -> Result<Self, KeyError> {
        Self::of(log_in(place)?.2)
    }

    fn of(session: Session) -> Result<Self, KeyError> {
        let (agree, point) = pair(&session, SHARES)?;
        let (sign, signing) = pair(&session, DECISIONS)?;
        let recipient =
            recipient_at(&point).map_err(|error| KeyError::Use(format!("the token's X25519 key {error}")))?;
        Ok(Self {
            session,
            agree,
            sign,
            point,
            recipient,
            signing: PublicKey(signing),
        })
    }

    /// X25519 (RFC 7748 §6.1) with the token's key.
    fn agree_with(&self, point: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), point));
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::ValueLen(32.into()),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ];
        let agreed = self
            .session
            .derive_key(&mechanism, self.agree, &template)
            .map_err(failed("the token agrees on no secret (CKM_ECDH1_DERIVE)"))?;
        let values = self.session.get_attributes(agreed, &[AttributeType::Value]);
        let destroyed = self.session.destroy_object(agreed);
        let values = values.map_err(failed("the token does not tell the secret that it agreed on"))?;
        destroyed.map_err(failed("the token keeps the secret that it agreed on"))?;
        let value = values.into_iter().find_map(|attribute| match attribute {
            Attribute::Value(value) => Some(Zeroizing::new(value)),
            _ => None,
        });
        // An agreement on zero is one with everybody (RFC 7748 §6.1).
        value
            .filter(|value| value.len() == 32 && value.iter().any(|byte| *byte != 0))
            .ok_or_else(|| KeyError::Use("the token agreed on no secret that does".to_owned()))
    }
}

/// The private key with a label, and the point of its public half.
fn pair(session: &Session, label: &str) -> Result<(ObjectHandle, [u8; 32]), KeyError> {
    let find = |class| {
        let template = [Attribute::Class(class), Attribute::Label(label.into())];
        let found = session
            .find_objects(&template)
            .map_err(failed("the token cannot be searched"))?;
        match found[..] {
            [one] => Ok(one),
            _ => Err(KeyError::Use(format!(
                "the token has {} keys with the label {label}, and not one: gst-compliance keys custodian --make makes it",
                found.len()
            ))),
        }
    };
    let (private, public) = (find(ObjectClass::PRIVATE_KEY)?, find(ObjectClass::PUBLIC_KEY)?);
    let values = session
        .get_attributes(public, &[AttributeType::EcPoint])
        .map_err(failed("the token does not show its public key"))?;
    let point = values.iter().find_map(|attribute| match attribute {
        // A DER octet string, and by some tokens the point alone.
        Attribute::EcPoint(point) => match &point[..] {
            [0x04, 0x20, point @ ..] if point.len() == 32 => point.try_into().ok(),
            point => point.try_into().ok(),
        },
        _ => None,
    });
    let point =
        point.ok_or_else(|| KeyError::Use("the token's public key is none of 32 bytes".to_owned()))?;
    Ok((private, point))
}

impl CustodianKey for TokenKey {
    fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    fn signing(&self) -> PublicKey {
        self.signing
    }

    fn sign(&self, purpose: &str, data: &[u8]) -> Result<Signature, KeyError> {
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signed = self
            .session
            .sign(&mechanism, self.sign, &to_be_signed(purpose, data))
            .map_err(failed("the token does not sign (CKM_EDDSA)"))?;
        let signature = signed.try_into().map(Signature).ok();
        signature
            .filter(|signature| self.signing.verifies(purpose, data, signature))
            .ok_or_else(|| KeyError::Use("the token's signature does not verify".to_owned()))
    }

    fn open(&self, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let unwrap = Unwrap {
            key: self,
            trouble: RefCell::new(None),
        };
        let opened = age_file::open_with(file, [&unwrap as &dyn age::Identity].into_iter());
        match unwrap.trouble.into_inner() {
            Some(trouble) => Err(trouble),
            None => Ok(opened?),
        }
    }
}

/// The X25519 stanza of an age file (age-encryption.org/v1, "The X25519 recipient type"), opened by the token.
struct Unwrap<'a> {
    key: &'a TokenKey,
    trouble: RefCell<Option<KeyError>>,
}

impl age::Identity for Unwrap<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != "X25519" {
            return None;
        }
        let share = match &stanza.args[..] {
            [share] => STANDARD_NO_PAD.decode(share).ok(),
            _ => None,
        };
        let share: Option<[u8; 32]> = share.and_then(|share| share.try_into().ok());
        let body: Option<&[u8; 32]> = stanza.body.as_slice().try_into().ok();
        let (Some(share), Some(body)) = (share, body) else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        let agreed = match self.key.agree_with(&share) {
            Ok(agreed) => agreed,
            Err(error) => {
                *self.trouble.borrow_mut() = Some(error);
                return Some(Err(DecryptError::DecryptionFailed));
            }
        };
        let salt = [share, self.key.point].concat();
        let key = Zeroizing::new(hkdf(&salt, b"age-encryption.org/v1/X25519", &agreed));
        // What does not open is for somebody else.
        let opened = aead_decrypt(&key, 16, body).ok().map(Zeroizing::new)?;
        if opened.len() != 16 {
            return Some(Err(DecryptError::InvalidHeader));
        }
        Some(Ok(FileKey::init_with_mut(|file_key| {
            file_key.copy_from_slice(&opened)
        })))
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey")
            .field("recipient", &self.recipient.to_string())
            .finish_non_exhaustive()
    }
}
