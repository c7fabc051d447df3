//! (placeholder)
use bytes::Bytes;
/// One entry
pub struct Rendered { /// m
 pub method: http::Method, /// h
 pub is_head: bool, /// b
 pub bytes: Bytes, /// b
 pub body: Bytes, /// u
 pub uri: http::Uri, /// h
 pub headers: Vec<(http::HeaderName, http::HeaderValue)> }
/// mix
pub struct Mix;
impl Mix { /// p
 pub fn pick(&self, _index: u64) -> usize { 0 } }
