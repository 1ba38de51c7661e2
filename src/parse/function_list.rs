//! FUNCTION LIST WITHCODE (7.0+): the code of all libraries.

use ::redis::Value;

use super::reply::{Malformed, bytes, items, pairs};

/// Parses the code of each library.
///
/// # Errors
/// The reply is not a list of libraries with their code.
pub(crate) fn function_list(value: Value) -> Result<Vec<Vec<u8>>, Malformed> {
    let code = |library| {
        let mut fields = pairs(library)?.into_iter();
        let code = fields.find(|(name, _)| name == "library_code");
        bytes(code.ok_or(Malformed::new("a list of libraries with their code"))?.1)
    };
    items(value)?.into_iter().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_come_with_their_code() {
        // Reply of Redis 7.0.15, without the list of functions.
        let reply = b"*1\r\n*6\r\n$12\r\nlibrary_name\r\n$3\r\nlib\r\n$6\r\nengine\r\n$3\r\nLUA\r\n$12\r\nlibrary_code\r\n$15\r\n#!lua name=lib\n\r\n";
        let parse = |bytes: &[u8]| function_list(::redis::parse_redis_value(bytes).unwrap());
        assert_eq!(parse(reply), Ok(vec![b"#!lua name=lib\n".to_vec()]));
        assert_eq!(parse(b"*0\r\n"), Ok(vec![]));
        assert!(parse(b"*1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n").is_err());
        assert!(parse(b"+OK\r\n").is_err());
    }
}
