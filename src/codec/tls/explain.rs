//! TLS errors in words.

use rustls::CertificateError;
use rustls::pki_types::UnixTime;

/// A TLS error for people: what is wrong, mostly with the certificate, and the way out.
pub(super) fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(bad) => certificate(bad),
        rustls::Error::InvalidMessage(_) => {
            format!("{error}: does the target speak plain http?")
        }
        rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired) => {
            "the target demands a client's certificate: name one with `client_cert` and \
             `client_key` (--cert, --key)"
                .into()
        }
        other => other.to_string(),
    }
}

fn certificate(bad: &CertificateError) -> String {
    use CertificateError as Bad;
    match bad {
        Bad::Expired => "the target's certificate has expired".into(),
        Bad::ExpiredContext { not_after, .. } => {
            format!("the target's certificate expired on {}", date(not_after))
        }
        Bad::NotValidYet => "the target's certificate is not valid yet".into(),
        Bad::NotValidYetContext { not_before, .. } => {
            format!("the target's certificate is valid only from {}", date(not_before))
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => named(bad),
        Bad::UnknownIssuer => "no trusted authority signed the target's certificate; name its \
                               authority with `ca_file` (--ca-file)"
            .into(),
        // An authority of the same name is trusted, but it is another one.
        Bad::BadSignature
        | Bad::UnsupportedSignatureAlgorithmContext { .. }
        | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the trusted authority of that name did not sign the target's certificate; name the \
             right one with `ca_file` (--ca-file)"
                .into()
        }
        other => match format!("{other:?}") {
            // rustls hands on what its verifier says and names no kind for it.
            text if text.contains("CaUsedAsEndEntity") => {
                "the target shows an authority's own certificate (basicConstraints CA:TRUE), which \
                 is no server's: make one with CA:FALSE, or use `insecure` (--insecure)"
                    .into()
            }
            text => format!("the target's certificate is not valid: {text}"),
        },
    }
}

fn named(bad: &CertificateError) -> String {
    let CertificateError::NotValidForNameContext { expected, presented } = bad else {
        return "the target's certificate is for another name".into();
    };
    let presented = if presented.is_empty() { "no name".into() } else { presented.join(", ") };
    format!("the target's certificate is not for `{}` but for {presented}", expected.to_str())
}

fn date(at: &UnixTime) -> String {
    let stamp = i64::try_from(at.as_secs()).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    stamp.map_or_else(|| format!("second {} of Unix time", at.as_secs()), |s| s.to_string())
}
