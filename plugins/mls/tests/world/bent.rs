//! MLS crypto that is right but for whom its owner wants to be unable to follow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use openmls::prelude::tls_codec::Serialize as _;
use openmls::prelude::*;
use openmls_rust_crypto::RustCrypto;

/// The nodes of a tree that are to get rubbish, by the keys that are encrypted to.
#[derive(Default)]
pub struct Wrong {
    keys: BTreeMap<Vec<u8>, bool>,
    others: bool,
}

impl Wrong {
    /// Leaf `n` has bit `2 n`, the `n`-th parent node that is not blank bit `2 n + 1`. Bit 63 is for keys that are in no
    /// node. What gets rubbish does not depend on the order in which the library encrypts, which is not always the same.
    pub fn of(group: &MlsGroup, mask: u64) -> Self {
        let bit = |at: usize| mask >> (at % 63) & 1 == 1;
        let leaves = group.members().map(|member| {
            let at = 2 * member.index.usize();
            (member.encryption_key, bit(at))
        });
        // A parent node begins with its key, which has its length in front (RFC 9420 §7.1).
        let parents = group
            .treesync()
            .full_parents()
            .enumerate()
            .map(|(at, (_, parent))| {
                let parent = parent.tls_serialize_detached().unwrap();
                (parent[1..33].to_vec(), bit(2 * at + 1))
            });
        Self {
            keys: leaves.chain(parents).collect(),
            others: mask >> 63 == 1,
        }
    }
}

/// Crypto that encrypts rubbish to some.
pub struct Bent {
    inner: RustCrypto,
    wrong: Wrong,
    sealed: AtomicUsize,
}

/// A provider with bent crypto.
pub struct BentProvider<'a, P> {
    inner: &'a P,
    crypto: Bent,
}

impl<'a, P> BentProvider<'a, P> {
    pub fn new(inner: &'a P, wrong: Wrong) -> Self {
        let crypto = Bent {
            inner: RustCrypto::default(),
            wrong,
            sealed: AtomicUsize::new(0),
        };
        Self { inner, crypto }
    }

    /// To how many keys it encrypted.
    pub fn sealed(&self) -> usize {
        self.crypto.sealed.load(Ordering::Relaxed)
    }
}

impl<P: OpenMlsProvider> OpenMlsProvider for BentProvider<'_, P> {
    type CryptoProvider = Bent;
    type RandProvider = P::RandProvider;
    type StorageProvider = P::StorageProvider;

    fn storage(&self) -> &P::StorageProvider {
        self.inner.storage()
    }

    fn crypto(&self) -> &Bent {
        &self.crypto
    }

    fn rand(&self) -> &P::RandProvider {
        self.inner.rand()
    }
}

impl OpenMlsCrypto for Bent {
    fn supports(&self, suite: Ciphersuite) -> Result<(), CryptoError> {
        self.inner.supports(suite)
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        self.inner.supported_ciphersuites()
    }

    fn hkdf_extract(&self, hash: HashType, salt: &[u8], ikm: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hkdf_extract(hash, salt, ikm)
    }

    fn hmac(&self, hash: HashType, key: &[u8], message: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hmac(hash, key, message)
    }

    fn hkdf_expand(
        &self,
        hash: HashType,
        prk: &[u8],
        info: &[u8],
        length: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hkdf_expand(hash, prk, info, length)
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.hash(hash, data)
    }

    fn aead_encrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.aead_encrypt(alg, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.aead_decrypt(alg, key, data, nonce, aad)
    }

    fn signature_key_gen(&self, alg: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        self.inner.signature_key_gen(alg)
    }

    fn verify_signature(
        &self,
        alg: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.inner.verify_signature(alg, data, key, signature)
    }

    fn sign(&self, alg: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.sign(alg, data, key)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
        text: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        self.sealed.fetch_add(1, Ordering::Relaxed);
        let wrong = self.wrong.keys.get(key).copied().unwrap_or(self.wrong.others);
        let text = if wrong { vec![7; text.len()] } else { text.to_vec() };
        self.inner.hpke_seal(config, key, info, aad, &text)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.hpke_open(config, input, key, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        self.inner
            .hpke_setup_sender_and_export(config, key, info, context, length)
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        self.inner
            .hpke_setup_receiver_and_export(config, enc, key, info, context, length)
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Result<HpkeKeyPair, CryptoError> {
        self.inner.derive_hpke_keypair(config, ikm)
    }
}
