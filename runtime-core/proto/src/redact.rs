//! `Debug` of the messages with credentials: a logged one must not show them.

use std::fmt;

use crate::types::transfer::{AuthResponse, RegistryResolver};

impl fmt::Debug for AuthResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { auth_type: _, secret, username, expire_at } = self;
        f.debug_struct("AuthResponse")
            .field("auth_type", &self.auth_type())
            .field("secret", &if secret.is_empty() { "" } else { "<redacted>" })
            .field("username", username)
            .field("expire_at", expire_at)
            .finish()
    }
}

impl fmt::Debug for RegistryResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { auth_stream, headers, host_dir, default_scheme, http_debug: _, logs_stream } = self;
        f.debug_struct("RegistryResolver")
            .field("auth_stream", auth_stream)
            // Names only: one of them may be Authorization.
            .field("headers", &headers.keys())
            .field("host_dir", host_dir)
            .field("default_scheme", default_scheme)
            .field("http_debug", &self.http_debug())
            .field("logs_stream", logs_stream)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::types::transfer::{AuthResponse, AuthType, OciRegistry, RegistryResolver};

    #[test]
    fn debug_of_an_answer_shows_no_secret() {
        let auth_type = AuthType::Credentials.into();
        let username = "user".to_owned();
        let answer = AuthResponse { auth_type, username, secret: "hunter2".to_owned(), expire_at: None };
        let text = format!("{answer:?}");
        assert!(text.contains("Credentials") && text.contains("<redacted>"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn debug_of_a_registry_shows_names_of_headers_only() {
        let headers = [("Authorization".to_owned(), "Bearer hunter2".to_owned())].into();
        let resolver = Some(RegistryResolver { headers, ..Default::default() });
        let text = format!("{:?}", OciRegistry { reference: "registry.example/a".to_owned(), resolver });
        assert!(text.contains("Authorization") && !text.contains("hunter2"), "{text}");
    }
}
