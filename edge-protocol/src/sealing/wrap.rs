//! Content keys encrypted to one device's sealing key by HPKE, base mode (RFC 9180).

use std::convert::Infallible;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, HpkeError, Kem, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use super::content::{ContentKey, OpenError, RootSecret};
use super::{SealingKey, SealingSecret};
use crate::Digest;
use crate::v1::{Bytes, KeyWrap};

/// What the encryption is for: nothing that was encrypted for another use opens as a content key.
const INFO: &[u8] = b"outrigger content key v1";

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Encapped = <X25519HkdfSha256 as Kem>::EncappedKey;

impl RootSecret {
    /// Wraps a content key for a device. The ephemeral key is derived too: the same key for the same device is the same wrap.
    pub fn wrap(&self, key: &ContentKey, device: &SealingKey) -> KeyWrap {
        let (digest, sealing_key) = (key.digest(), device.fingerprint());
        let subject = Digest::of_parts([digest.as_bytes().as_slice(), sealing_key.as_bytes()]);
        let seed = self.derive("ephemeral key", subject);
        let recipient = Public::from_bytes(device.as_bytes()).expect("a sealing key has 32 bytes");
        let aad = associated(&digest, &sealing_key);
        // The only failure is a shared secret of zero, which a sealing key of no low order does not give.
        let (enc, ciphertext) = encrypt(&recipient, (INFO, &aad), key.as_bytes(), seed)
            .expect("something can be sealed to a sealing key");
        KeyWrap {
            key: digest,
            sealing_key,
            enc: Bytes(enc),
            ciphertext: Bytes(ciphertext),
        }
    }
}

impl KeyWrap {
    /// The content key, if it was wrapped for the device of this secret.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(&self, secret: &SealingSecret) -> Result<ContentKey, OpenError> {
        if self.sealing_key != secret.public().fingerprint() {
            return Err(OpenError::OtherDevice);
        }
        let aad = associated(&self.key, &self.sealing_key);
        let clear = decrypt(secret, &self.enc.0, (INFO, &aad), &self.ciphertext.0);
        let bytes = clear.and_then(|clear| <[u8; 32]>::try_from(clear.as_slice()).ok());
        let key = ContentKey::from_bytes(Zeroizing::new(bytes.ok_or(OpenError::Damaged)?));
        if key.digest() != self.key {
            return Err(OpenError::OtherKey);
        }
        Ok(key)
    }
}

fn associated(key: &Digest, sealing_key: &Digest) -> [u8; 64] {
    let mut text = [0; 64];
    let (first, second) = text.split_at_mut(32);
    first.copy_from_slice(key.as_bytes());
    second.copy_from_slice(sealing_key.as_bytes());
    text
}

fn encrypt(
    recipient: &Public,
    (info, aad): (&[u8], &[u8]),
    text: &[u8],
    seed: Zeroizing<[u8; 32]>,
) -> Result<(Vec<u8>, Vec<u8>), HpkeError> {
    let (enc, ciphertext) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        recipient,
        info,
        text,
        aad,
        &mut Seed(seed),
    )?;
    Ok((enc.to_bytes().to_vec(), ciphertext))
}

fn decrypt(
    secret: &SealingSecret,
    enc: &[u8],
    (info, aad): (&[u8], &[u8]),
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let private = Private::from_bytes(&*secret.0).ok()?;
    let enc = Encapped::from_bytes(enc).ok()?;
    let clear = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &enc,
        info,
        ciphertext,
        aad,
    );
    clear.ok().map(Zeroizing::new)
}

/// "Randomness" that was derived: it is asked for once, for the ephemeral key's material (RFC 9180, 7.1.3).
struct Seed(Zeroizing<[u8; 32]>);

impl TryRng for Seed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for (out, byte) in out.iter_mut().zip(self.0.iter().cycle()) {
            *out = *byte;
        }
        Ok(())
    }
}

impl TryCryptoRng for Seed {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::unhex;

    fn bytes(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    /// RFC 9180, A.2.1: base mode of DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, `ChaCha20Poly1305`; the first encryption.
    #[test]
    fn the_cipher_suite_is_that_of_the_standard() {
        let info = bytes("4f6465206f6e2061204772656369616e2055726e");
        let ikm_e = unhex("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b").unwrap();
        let enc = bytes("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
        let public = bytes("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        let secret = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
        let secret = SealingSecret::from_hex(secret).unwrap();
        let text = b"Beauty is truth, truth beauty";
        let ciphertext = bytes(
            "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
        );

        assert_eq!(secret.public().as_bytes().as_slice(), public);
        let recipient = Public::from_bytes(&public).unwrap();
        let made = encrypt(&recipient, (&info, b"Count-0"), text, Zeroizing::new(ikm_e)).unwrap();
        assert_eq!(made, (enc.clone(), ciphertext.clone()));
        let clear = decrypt(&secret, &enc, (&info, b"Count-0"), &ciphertext).unwrap();
        assert_eq!(clear.as_slice(), text);
        assert_eq!(decrypt(&secret, &enc, (&info, b"Count-1"), &ciphertext), None);
        assert_eq!(
            decrypt(&secret, &enc, (b"another use", b"Count-0"), &ciphertext),
            None
        );
    }
}
