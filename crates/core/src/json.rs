//! The guard in front of the JSON parser.

/// Deepest nesting of objects and arrays that is parsed.
pub const MAX_DEPTH: usize = 16;

/// Whether `json` nests no deeper than [`MAX_DEPTH`].
///
/// `sonic-rs` recurses once per level over values that it skips, without a bound, so a small hostile
/// text could exhaust the stack and end the process. One pass over the bytes, before the parser sees
/// them, rules that out. Brackets inside strings do not count; text that is not JSON is left to the
/// parser to refuse.
pub fn is_shallow(json: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nesting_counts_and_brackets_in_strings_do_not() {
        assert!(is_shallow(&b"[".repeat(MAX_DEPTH)));
        assert!(!is_shallow(&b"[".repeat(MAX_DEPTH + 1)));
        assert!(!is_shallow(&b"{\"a\":".repeat(100_000)));
        assert!(is_shallow(format!("\"{}\"", "[".repeat(100)).as_bytes()));
        assert!(is_shallow(format!("\"\\\"{}\"", "[".repeat(100)).as_bytes()));
        assert!(is_shallow(&b"[]".repeat(1_000)));
    }

    proptest! {
        /// What passes the guard can be parsed on a small stack, whatever it is.
        #[test]
        fn no_text_that_passes_ends_the_process(text in r#"[\[\]{}":,\\a1 ]{0,400}"#) {
            #[derive(serde::Deserialize)]
            struct Known { #[expect(dead_code, reason = "only its parsing matters")] a: Option<u8> }
            if is_shallow(text.as_bytes()) {
                let _ = sonic_rs::from_str::<Known>(&text);
            }
        }
    }
}
