//! What a device says in words is data from a stranger: bounded, and without control characters.

/// The longest text a device may put into a reason, message or fact, in bytes.
pub const MAX_TEXT: usize = 1024;

/// Bounds and escapes a text: control characters become `\u{..}`, and what exceeds [`MAX_TEXT`] bytes is cut at a character
/// boundary and marked with `…`. Clean text passes unchanged; the function is idempotent.
pub fn sanitise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_TEXT));
    for character in text.chars() {
        let before = clean.len();
        if is_hostile(character) {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
        if clean.len() > MAX_TEXT {
            clean.truncate(before);
            while clean.len() + '…'.len_utf8() > MAX_TEXT {
                clean.pop();
            }
            clean.push('…');
            break;
        }
    }
    clean
}

/// The longest text that a container may leave as its last words, in bytes; a kubelet reads no more.
pub const MAX_WORDS: usize = 4096;

/// As [`sanitise`] for the last words of a container: longer, and their lines stay lines.
pub fn words(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_WORDS));
    for character in text.chars() {
        let before = clean.len();
        if is_hostile(character) && !matches!(character, '\n' | '\t') {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
        if clean.len() > MAX_WORDS {
            clean.truncate(before);
            break;
        }
    }
    clean
}

/// Control characters, and the invisible ones that reorder what a terminal shows.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(sanitise("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\u{a}");
        assert_eq!(sanitise("Grüße"), "Grüße");
        assert_eq!(words("two\n\tlines\u{1b}"), "two\n\tlines\\u{1b}");
    }

    proptest! {
        #[test]
        fn the_result_is_bounded_clean_and_stable(text in ".{0,2000}") {
            let once = sanitise(&text);
            prop_assert!(once.len() <= MAX_TEXT);
            prop_assert!(!once.chars().any(char::is_control));
            prop_assert_eq!(sanitise(&once), once);
        }

        #[test]
        fn last_words_are_bounded_and_stable(text in "[\n\t\u{1b}a-zé]{0,3000}") {
            let once = words(&text);
            prop_assert!(once.len() <= MAX_WORDS);
            prop_assert!(!once.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
            prop_assert_eq!(words(&once), once);
        }
    }
}
