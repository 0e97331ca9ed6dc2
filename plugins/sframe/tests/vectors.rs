//! RFC 9605 Appendix C: every vector through the backend, and through the elements.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy sees helpers of tests as ordinary code"
)]

mod common;

use common::*;
use gst::prelude::*;
use gst_e2ee_common::cipher_suite::CipherSuite;
use gst_e2ee_common::header::{Header, MAX_LEN};
use gstsframe::crypto::{Backend, Secret, crate_suite};
use sframe::crypto::{AeadDecrypt, AeadEncrypt, DecryptionBufferView, EncryptionBufferView};
use sframe::key::{GenericDecryptionKey, GenericEncryptionKey};
use std::fs;
use vector::Vector;
use zeroize::Zeroizing;

mod vector {
    /// One line of the file.
    pub struct Vector(Vec<String>);

    impl Vector {
        pub fn all(kind: &str) -> Vec<Self> {
            let lines = include_str!("vectors/rfc9605.txt").lines();
            let found: Vec<_> = lines
                .map(|line| Self(line.split(' ').map(String::from).collect()))
                .filter(|vector| vector.0[0] == kind)
                .collect();
            assert!(!found.is_empty());
            found
        }

        pub fn number(&self, at: usize) -> u64 {
            self.0[at].parse().unwrap()
        }

        pub fn bytes(&self, at: usize) -> Vec<u8> {
            hex::decode(&self.0[at]).unwrap()
        }

        pub fn text(&self, at: usize) -> &str {
            &self.0[at]
        }
    }
}

fn suite(vector: &Vector) -> CipherSuite {
    CipherSuite::from_iana(vector.number(1) as u32).unwrap()
}

#[test]
fn headers() {
    let vectors = Vector::all("header");
    assert_eq!(vectors.len(), 289);
    for vector in vectors {
        let header = Header {
            kid: vector.number(1),
            ctr: vector.number(2),
        };
        let expected = vector.bytes(3);
        let mut out = [0; MAX_LEN];
        let len = header.write(&mut out);
        assert_eq!(out[..len], expected);
        assert_eq!(Header::parse(&expected), Ok((header, len)));
    }
}

#[test]
fn frames_through_the_backend() {
    let vectors = Vector::all("sframe");
    assert_eq!(vectors.len(), 5);
    for v in vectors {
        let (kid, ctr) = (v.number(2), v.number(3));
        let (base_key, metadata, plaintext, sealed) = (v.bytes(4), v.bytes(5), v.bytes(6), v.bytes(7));
        let mut header = [0; MAX_LEN];
        let header_len = Header { kid, ctr }.write(&mut header);
        let (expected_header, body) = sealed.split_at(header_len);
        assert_eq!(&header[..header_len], expected_header);

        let mut aad = [&header[..header_len], &metadata].concat();
        let mut data = plaintext.clone();
        let mut tag = vec![0; suite(&v).tag_len()];
        GenericEncryptionKey::<Backend, Backend>::derive_from(crate_suite(suite(&v)), kid, &base_key)
            .unwrap()
            .encrypt(
                EncryptionBufferView {
                    aad: &mut aad,
                    data: &mut data,
                    tag: &mut tag,
                },
                ctr,
            )
            .unwrap();
        assert_eq!([data, tag].concat(), body);

        let mut data = body.to_vec();
        GenericDecryptionKey::<Backend, Backend>::derive_from(crate_suite(suite(&v)), kid, &base_key)
            .unwrap()
            .decrypt(
                DecryptionBufferView {
                    aad: &mut aad,
                    data: &mut data,
                },
                ctr,
            )
            .unwrap();
        assert_eq!(data[..plaintext.len()], plaintext);
    }
}

/// The raw AEAD vectors give the AEAD's key, which the backend derives: so HKDF is not part of this one.
#[test]
fn counter_mode_with_hmac() {
    use aes::cipher::{KeyIvInit, StreamCipher};
    let vectors = Vector::all("ctr-hmac");
    assert_eq!(vectors.len(), 3);
    for v in vectors {
        let (key, nonce, aad, plaintext, expected) =
            (v.bytes(2), v.bytes(3), v.bytes(4), v.bytes(5), v.bytes(6));
        // With counter 0 the nonce is the salt.
        let salt = Zeroizing::new(nonce[..].try_into().unwrap());
        let secret = Secret::new(suite(&v), &key, salt).unwrap();
        let (mut aad, mut data) = (aad, plaintext.clone());
        let mut tag = vec![0; suite(&v).tag_len()];
        Backend
            .encrypt(
                &secret,
                EncryptionBufferView {
                    aad: &mut aad,
                    data: &mut data,
                    tag: &mut tag,
                },
                0,
            )
            .unwrap();
        assert_eq!([data, tag].concat(), expected);
        let mut data = expected.clone();
        Backend
            .decrypt(
                &secret,
                DecryptionBufferView {
                    aad: &mut aad,
                    data: &mut data,
                },
                0,
            )
            .unwrap();
        assert_eq!(data[..plaintext.len()], plaintext);
        // And against a second implementation of the cipher alone.
        let mut data = plaintext.clone();
        let iv = [&nonce[..], &[0; 4]].concat();
        ctr::Ctr128BE::<aes::Aes128>::new_from_slices(&key[..16], &iv)
            .unwrap()
            .apply_keystream(&mut data);
        assert_eq!(expected[..data.len()], data);
    }
}

#[test]
fn frames_through_the_elements() {
    for v in Vector::all("sframe") {
        let (kid, ctr) = (v.number(2), v.number(3));
        let metadata = String::from_utf8(v.bytes(5)).unwrap();
        let (plaintext, expected) = (v.bytes(6), v.bytes(7));
        let nick = suite(&v).nick();
        let keys = Keys::with(&format!("{kid} {}", v.text(4)));
        fs::write(keys.counter_file(kid), ctr.to_string()).unwrap();
        let configured = |element: gst::Element, metadata: &str| {
            element.set_property_from_str("cipher-suite", nick);
            element.set_property("metadata", metadata);
            element
        };
        let mut enc = Bench::new(configured(keys.enc(kid), &metadata), "application/octet-stream");
        enc.h.push(gst::Buffer::from_slice(plaintext.clone())).unwrap();
        let sealed = enc.h.pull().unwrap();
        assert_eq!(bytes(&sealed), expected, "{nick}");

        let caps = "application/x-sframe,original-media-type=application/octet-stream";
        let mut other = Bench::new(configured(keys.dec(), "other"), caps);
        other.h.push(sealed.clone()).unwrap();
        assert_eq!(other.stat("auth-failed"), 1);
        let mut dec = Bench::new(configured(keys.dec(), &metadata), caps);
        dec.h.push(sealed).unwrap();
        assert_eq!(bytes(&dec.h.pull().unwrap()), plaintext);
    }
}

#[test]
fn headers_through_the_elements() {
    for v in Vector::all("header") {
        let (kid, ctr) = (v.number(1), v.number(2));
        if ctr == u64::MAX {
            // Never handed out: a lease could not end behind it.
            continue;
        }
        let keys = Keys::with(&format!("{kid} {KEY_HEX}"));
        fs::write(keys.counter_file(kid), ctr.to_string()).unwrap();
        let (caps, out) = sealed(&keys, kid, "application/octet-stream", vec![frame(0, 50)]);
        let expected = v.bytes(3);
        assert_eq!(bytes(&out[0])[..expected.len()], expected);
        let mut dec = Bench::new(keys.dec(), &caps);
        dec.h.push(out[0].clone()).unwrap();
        assert_eq!(bytes(&dec.h.pull().unwrap()), bytes(&frame(0, 50)));
    }
}
