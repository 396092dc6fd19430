//! The credentials file of an S3 destination: the format of `~/.aws/credentials`, its first profile.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// Keys that sign requests.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The access key.
    pub secret_access_key: Zeroizing<String>,
    /// The token of temporary credentials.
    pub session_token: Option<Zeroizing<String>>,
}

/// Why a file holds no credentials. Says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// A line is none of the format.
    #[error("line {0} is neither empty, nor a comment, nor [profile], nor key = value")]
    Line(usize),
    /// A key is missing.
    #[error("it has no {0}: write it as {0} = VALUE")]
    Missing(&'static str),
}

impl S3Credentials {
    /// Reads a file: `key = value` lines of the first profile; other keys, and further profiles, are passed over.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let (mut id, mut secret, mut token, mut profiles) = (None, None, None, 0);
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') && line.ends_with(']') {
                profiles += 1;
                continue;
            }
            let (key, value) = line.split_once('=').ok_or(CredentialsError::Line(number))?;
            if profiles > 1 || value.trim().is_empty() {
                continue;
            }
            let value = value.trim().to_owned();
            match key.trim() {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => secret = Some(Zeroizing::new(value)),
                "aws_session_token" => token = Some(Zeroizing::new(value)),
                _ => {}
            }
        }
        Ok(Self {
            access_key_id: id.ok_or(CredentialsError::Missing("aws_access_key_id"))?,
            secret_access_key: secret.ok_or(CredentialsError::Missing("aws_secret_access_key"))?,
            session_token: token,
        })
    }
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_profile_of_a_credentials_file() {
        let text = "# keys\n[default]\naws_access_key_id = AKIA\naws_secret_access_key=a/b+c=\nregion = x\n\n\
                    [other]\naws_access_key_id = OTHER\naws_session_token = t\n";
        let read = S3Credentials::parse(text).unwrap();
        assert_eq!((&*read.access_key_id, &**read.secret_access_key), ("AKIA", "a/b+c="));
        assert_eq!(read.session_token, None);
        assert!(!format!("{read:?}").contains("a/b"), "secrets are not shown");
        let bare =
            S3Credentials::parse("aws_access_key_id=i\naws_secret_access_key=s\naws_session_token=t\n");
        assert_eq!(bare.unwrap().session_token.unwrap().as_str(), "t");
    }

    #[test]
    fn what_is_missing_or_wrong_is_said_without_the_secret() {
        assert_eq!(S3Credentials::parse("").unwrap_err(), CredentialsError::Missing("aws_access_key_id"));
        let told = S3Credentials::parse("aws_access_key_id = i\naws_secret_access_key =\n").unwrap_err();
        assert_eq!(told, CredentialsError::Missing("aws_secret_access_key"));
        assert_eq!(S3Credentials::parse("[x]\nsecret").unwrap_err(), CredentialsError::Line(2));
    }
}
