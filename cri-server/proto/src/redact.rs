//! `Debug` of the one message with credentials: a logged request must not show them.

use std::fmt;

use crate::v1::AuthConfig;

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AuthConfig { username, password, auth, server_address, identity_token, registry_token } = self;
        f.debug_struct("AuthConfig")
            .field("username", username)
            .field("password", &Redacted::of(password))
            .field("auth", &Redacted::of(auth))
            .field("server_address", server_address)
            .field("identity_token", &Redacted::of(identity_token))
            .field("registry_token", &Redacted::of(registry_token))
            .finish()
    }
}

/// Tells whether there is a secret, not which.
enum Redacted {
    Empty,
    Set,
}

impl Redacted {
    fn of(secret: &str) -> Self {
        if secret.is_empty() { Self::Empty } else { Self::Set }
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("\"\""),
            Self::Set => f.write_str("<redacted>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::v1::{AuthConfig, PullImageRequest};

    #[test]
    fn debug_of_a_pull_request_shows_no_credentials() {
        let auth = AuthConfig {
            username: "user".to_owned(),
            password: "hunter2".to_owned(),
            auth: "dXNlcjpodW50ZXIy".to_owned(),
            server_address: "registry.example".to_owned(),
            identity_token: "identity".to_owned(),
            registry_token: "bearer".to_owned(),
        };
        let request = PullImageRequest { auth: Some(auth), ..Default::default() };
        let text = format!("{request:?}");
        assert!(text.contains("registry.example") && text.contains("password: <redacted>"), "{text}");
        for secret in ["hunter2", "dXNlcjpodW50ZXIy", "\"identity\"", "bearer"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
