//! What the command says.

use std::error::Error;
use std::io::{self, Write};

use serde::Serialize;

/// A command line that cannot be meant.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// Prints text. Whoever reads only its beginning (`| head`) does no wrong.
pub fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a value for a program, in one line.
pub fn print_json(value: &impl Serialize) -> Result<(), Box<dyn Error>> {
    print(&format!("{}\n", serde_json::to_string(value)?))
}

/// A word for a command line that a person copies into a shell: nothing in it means anything to the shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_one_word_to_a_shell() {
        assert_eq!(quoted("ben-new/cert.pem"), "ben-new/cert.pem");
        for word in [
            "", "a b", "$(id)", "`id`", "it's; id", "a\\nb", "\"", "*", "~", "#", "é", "-x\ny",
        ] {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
