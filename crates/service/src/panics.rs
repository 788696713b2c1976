//! The text of a panic.

use std::any::Any;

/// The message of a caught panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn the_text_of_a_panic_is_its_message() {
        let text = |panic: fn()| panic_text(&*catch_unwind(panic).unwrap_err()).to_owned();
        assert_eq!(text(|| panic!("literal")), "literal");
        assert_eq!(text(|| panic!("number {}", std::hint::black_box(7))), "number 7");
        assert_eq!(text(|| std::panic::panic_any(7)), "no message");
    }
}
