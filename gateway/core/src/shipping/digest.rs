//! SHA-256 digests as HTTP fields: `Repr-Digest` and `Content-Digest` (RFC 9530).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A SHA-256.
pub type Sha256Digest = [u8; 32];

/// The value of `Repr-Digest` or `Content-Digest`: a dictionary (RFC 9651) with the one key `sha-256`.
pub fn digest_field(digest: &Sha256Digest) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest))
}

/// The SHA-256 that such a field holds; keys of other algorithms are passed over. `None` where there is none,
/// or where it is malformed, or there twice with different values.
pub fn confirmed_digest(field: &str) -> Option<Sha256Digest> {
    let mut found = None;
    for member in field.split(',') {
        // Parameters of a member have no meaning here.
        let Some((key, value)) = member.split(';').next()?.trim().split_once('=') else { continue };
        if key != "sha-256" {
            continue;
        }
        let encoded = value.strip_prefix(':')?.strip_suffix(':')?;
        let digest: Sha256Digest = STANDARD.decode(encoded).ok()?.try_into().ok()?;
        if found.is_some_and(|found| found != digest) {
            return None;
        }
        found = Some(digest);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_9530() {
        // Appendix B.1: {"hello": "world"} and a newline.
        let field = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        let digest = confirmed_digest(field).unwrap();
        assert_eq!(digest_field(&digest), field);
        let both = format!("sha-512=:AAAA:, {field};x=1");
        assert_eq!(confirmed_digest(&both), Some(digest));
    }

    #[test]
    fn what_is_malformed_confirms_nothing() {
        let good = digest_field(&[1; 32]);
        for field in [
            "",
            "sha-256",
            "sha-256=",
            "sha-256=::",
            "sha-256=:AAAA:",
            "sha-512=:AAAA:",
            "SHA-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
            &format!("{good}, {}", digest_field(&[2; 32])),
        ] {
            assert_eq!(confirmed_digest(field), None, "{field}");
        }
        assert_eq!(confirmed_digest(&format!("{good}, {good}")), Some([1; 32]));
    }

    proptest! {
        #[test]
        fn any_digest_survives_and_any_text_is_no_panic(digest: [u8; 32], text in "\\PC*") {
            prop_assert_eq!(confirmed_digest(&digest_field(&digest)), Some(digest));
            confirmed_digest(&text);
        }
    }
}
