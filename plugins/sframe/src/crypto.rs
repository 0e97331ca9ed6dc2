//! The cipher suites: key derivation (RFC 9605 §4.4.2) and the AEADs of suites 1 to 5, as a backend of the `sframe`
//! crate. Its own backends build the cipher's key schedule anew for every frame; this one keeps it in the secret.
//!
//! GCM runs on `ring`. The counter-mode suites, which `ring` lacks, use RustCrypto's AES and `ring`'s HMAC.

use crate::wiped::Wiped;
use aes::Aes128;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher};
use gst_e2ee_common::cipher_suite::CipherSuite;
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{aead, hkdf, hmac};
use sframe::crypto::{
    AeadDecrypt, AeadEncrypt, DecryptionBufferView, EncryptionBufferView, KeyDerivation,
    get_hkdf_key_expand_label, get_hkdf_salt_expand_label,
};
use sframe::error::{Result, SframeError};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The suite as the `sframe` crate names it.
pub fn crate_suite(suite: CipherSuite) -> sframe::CipherSuite {
    match suite {
        CipherSuite::Aes128CtrHmacSha256_80 => sframe::CipherSuite::AesCtr128HmacSha256_80,
        CipherSuite::Aes128CtrHmacSha256_64 => sframe::CipherSuite::AesCtr128HmacSha256_64,
        CipherSuite::Aes128CtrHmacSha256_32 => sframe::CipherSuite::AesCtr128HmacSha256_32,
        CipherSuite::Aes128GcmSha256_128 => sframe::CipherSuite::AesGcm128Sha256,
        CipherSuite::Aes256GcmSha512_128 => sframe::CipherSuite::AesGcm256Sha512,
    }
}

/// Our AEADs and key derivation, for the generic keys of the `sframe` crate.
#[derive(Debug, Clone, Copy)]
pub struct Backend;

/// A derived key, ready to use: nothing is computed per frame that could be kept.
pub struct Secret {
    salt: Zeroizing<[u8; NONCE_LEN]>,
    cipher: Cipher,
}

enum Cipher {
    Gcm(Wiped<LessSafeKey>),
    Ctr(Box<CtrHmac>),
}

/// AES-CTR with a shortened HMAC (RFC 9605 §4.5.1).
struct CtrHmac {
    aes: Aes128,
    hmac: Wiped<hmac::Key>,
    tag_len: usize,
}

impl TryFrom<sframe::CipherSuite> for Backend {
    type Error = SframeError;

    fn try_from(suite: sframe::CipherSuite) -> Result<Self> {
        CipherSuite::from_iana((suite as u16).into())
            .map(|_| Self)
            .ok_or(SframeError::UnsupportedCipherSuite)
    }
}

/// The longest `sframe_key`: AES-128 and HMAC-SHA-256.
const MAX_KEY_LEN: usize = 48;

/// Nk (RFC 9605 §4.5).
fn key_len(suite: CipherSuite) -> usize {
    match suite {
        CipherSuite::Aes128GcmSha256_128 => 16,
        CipherSuite::Aes256GcmSha512_128 => 32,
        CipherSuite::Aes128CtrHmacSha256_80
        | CipherSuite::Aes128CtrHmacSha256_64
        | CipherSuite::Aes128CtrHmacSha256_32 => MAX_KEY_LEN,
    }
}

impl Secret {
    /// The secret of an `sframe_key` and `sframe_salt`, as RFC 9605 §4.4.2 derives them.
    pub fn new(suite: CipherSuite, key: &[u8], salt: Zeroizing<[u8; NONCE_LEN]>) -> Result<Self> {
        let gcm = |algorithm| {
            UnboundKey::new(algorithm, key)
                .map(|key| Cipher::Gcm(Wiped::new(LessSafeKey::new(key))))
                .map_err(|_| SframeError::KeyDerivationFailure)
        };
        let cipher = match suite {
            CipherSuite::Aes128GcmSha256_128 => gcm(&aead::AES_128_GCM)?,
            CipherSuite::Aes256GcmSha512_128 => gcm(&aead::AES_256_GCM)?,
            CipherSuite::Aes128CtrHmacSha256_80
            | CipherSuite::Aes128CtrHmacSha256_64
            | CipherSuite::Aes128CtrHmacSha256_32 => {
                // The AES key, then the HMAC key (RFC 9605 §4.5.1).
                let (enc_key, auth_key) = key
                    .split_at_checked(16)
                    .ok_or(SframeError::KeyDerivationFailure)?;
                Cipher::Ctr(Box::new(CtrHmac {
                    aes: Aes128::new_from_slice(enc_key).map_err(|_| SframeError::KeyDerivationFailure)?,
                    hmac: Wiped::new(hmac::Key::new(hmac::HMAC_SHA256, auth_key)),
                    tag_len: suite.tag_len(),
                }))
            }
        };
        Ok(Self { salt, cipher })
    }

    /// Nonce = salt XOR counter (RFC 9605 §4.4.3).
    fn nonce(&self, counter: u64) -> [u8; NONCE_LEN] {
        let mut nonce = *self.salt;
        for (n, c) in nonce[NONCE_LEN - 8..].iter_mut().zip(counter.to_be_bytes()) {
            *n ^= c;
        }
        nonce
    }
}

impl CtrHmac {
    fn apply_keystream(&self, nonce: &[u8; NONCE_LEN], data: &mut [u8]) {
        let mut block = [0; 16];
        block[..NONCE_LEN].copy_from_slice(nonce);
        let core = ctr::CtrCore::<&Aes128, ctr::flavors::Ctr32BE>::inner_iv_init(&self.aes, &block.into());
        ctr::cipher::StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }

    /// HMAC over the lengths, the nonce, the AAD and the ciphertext; the caller cuts it to the tag's length.
    fn mac(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], ciphertext: &[u8]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.hmac);
        mac.update(&(aad.len() as u64).to_be_bytes());
        mac.update(&(ciphertext.len() as u64).to_be_bytes());
        mac.update(&(self.tag_len as u64).to_be_bytes());
        mac.update(nonce);
        mac.update(aad);
        mac.update(ciphertext);
        mac.sign()
    }
}

impl AeadEncrypt for Backend {
    type Secret = Secret;

    #[inline]
    fn encrypt<'a, B>(&self, secret: &Secret, buffer: B, counter: u64) -> Result<()>
    where
        B: Into<EncryptionBufferView<'a>>,
    {
        let EncryptionBufferView { aad, data, tag } = buffer.into();
        let nonce = secret.nonce(counter);
        match &secret.cipher {
            Cipher::Gcm(key) => {
                let full = key
                    .seal_in_place_separate_tag(
                        Nonce::assume_unique_for_key(nonce),
                        Aad::from(&aad[..]),
                        data,
                    )
                    .map_err(|_| SframeError::EncryptionFailure)?;
                tag.copy_from_slice(full.as_ref());
            }
            Cipher::Ctr(cipher) => {
                cipher.apply_keystream(&nonce, data);
                tag.copy_from_slice(&cipher.mac(&nonce, aad, data).as_ref()[..cipher.tag_len]);
            }
        }
        Ok(())
    }
}

impl AeadDecrypt for Backend {
    type Secret = Secret;

    #[inline]
    fn decrypt<'a, B>(&self, secret: &Secret, buffer: B, counter: u64) -> Result<()>
    where
        B: Into<DecryptionBufferView<'a>>,
    {
        let DecryptionBufferView { aad, data } = buffer.into();
        let nonce = secret.nonce(counter);
        match &secret.cipher {
            Cipher::Gcm(key) => key
                .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(&aad[..]), data)
                .map(|_| ())
                .map_err(|_| SframeError::DecryptionFailure),
            Cipher::Ctr(cipher) => {
                let split = data.len().checked_sub(cipher.tag_len);
                let (ciphertext, tag) = data.split_at_mut(split.ok_or(SframeError::DecryptionFailure)?);
                let expected = cipher.mac(&nonce, aad, ciphertext);
                if !bool::from(expected.as_ref()[..cipher.tag_len].ct_eq(tag)) {
                    return Err(SframeError::DecryptionFailure);
                }
                cipher.apply_keystream(&nonce, ciphertext);
                Ok(())
            }
        }
    }
}

impl KeyDerivation for Backend {
    type Secret = Secret;

    fn expand_from<M, K>(suite: sframe::CipherSuite, key_material: M, key_id: K) -> Result<Secret>
    where
        M: AsRef<[u8]>,
        K: Into<u64>,
    {
        let ours =
            CipherSuite::from_iana((suite as u16).into()).ok_or(SframeError::UnsupportedCipherSuite)?;
        let algorithm = match ours {
            CipherSuite::Aes256GcmSha512_128 => hkdf::HKDF_SHA512,
            _ => hkdf::HKDF_SHA256,
        };
        let kid = key_id.into();
        let prk = hkdf::Salt::new(algorithm, b"").extract(key_material.as_ref());
        let expand = |label: Vec<u8>, out: &mut [u8]| {
            prk.expand(&[&label], OkmLen(out.len()))
                .and_then(|okm| okm.fill(out))
                .map_err(|_| SframeError::KeyDerivationFailure)
        };
        let mut salt = Zeroizing::new([0; NONCE_LEN]);
        expand(get_hkdf_salt_expand_label(kid, suite), salt.as_mut())?;
        let mut key = Zeroizing::new([0; MAX_KEY_LEN]);
        let key = &mut key[..key_len(ours)];
        expand(get_hkdf_key_expand_label(kid, suite), key)?;
        Secret::new(ours, key, salt)
    }
}

/// Output length for `ring`'s HKDF.
struct OkmLen(usize);

impl hkdf::KeyType for OkmLen {
    fn len(&self) -> usize {
        self.0
    }
}
