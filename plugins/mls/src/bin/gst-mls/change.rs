//! A change of a policy, as it is written on a command line or in a file.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};

use gstmls::policy::PolicyChange;
use serde_json::{Map, Value};

use crate::output::Usage;

/// Longest file, in bytes: a request to a keyring has no more.
const MAX_FILE: u64 = gstmls::control::MAX_REQUEST as u64;

/// Lists of fingerprints: `a,b` is as good as `["a","b"]`.
const LISTS: [&str; 4] = ["deny", "also_deny", "recipients", "roots"];

/// The change that `words` tell: one file (`-`: standard input), or `key=value` once or more often.
pub fn read(words: &[String]) -> Result<PolicyChange, Box<dyn Error>> {
    let change = match words {
        [file] if !file.contains('=') => {
            PolicyChange::parse(&read_file(file)?).map_err(|error| format!("{file}: {error}"))?
        }
        _ => {
            let object = Value::Object(object(words)?);
            PolicyChange::parse(object.to_string().as_bytes()).map_err(|error| Usage(error.to_string()))?
        }
    };
    if change == PolicyChange::default() {
        return Err(Usage("the change is empty: it names no field of the policy".to_owned()).into());
    }
    Ok(change)
}

fn read_file(name: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    let read = if name == "-" {
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        File::open(name).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| format!("{name} cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("{name} has more than {MAX_FILE} bytes").into());
    }
    Ok(bytes)
}

fn object(words: &[String]) -> Result<Map<String, Value>, Usage> {
    let mut object = Map::new();
    for word in words {
        let Some((key, text)) = word.split_once('=') else {
            return Err(Usage(format!(
                "{word} is not key=value; a file of changes stands alone"
            )));
        };
        // `rights.remove=participants`: the only fields with fields.
        let (place, name) = match key.split_once('.') {
            Some((outer, inner)) => {
                let outer = object.entry(outer).or_insert_with(|| Map::new().into());
                (outer.as_object_mut(), inner)
            }
            None => (Some(&mut object), key),
        };
        let twice = || Usage(format!("{key} is given twice"));
        let place = place.ok_or_else(twice)?;
        if place.insert(name.to_owned(), value(key, text)).is_some() {
            return Err(twice());
        }
    }
    Ok(object)
}

/// JSON where it is JSON, else text. Fingerprints and hashes may consist of decimal digits and are text all the same.
fn value(key: &str, text: &str) -> Value {
    let text_value = || Value::String(text.to_owned());
    if LISTS.contains(&key) && !text.starts_with('[') {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        return entries.map(Value::from).collect();
    }
    if key == "consent" && text != "null" {
        return text_value();
    }
    serde_json::from_str(text).unwrap_or_else(|_| text_value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn fields_are_json_where_they_are_and_text_where_not() {
        let digits = "1".repeat(64);
        for (word, expected) in [
            ("claim=recorded", json!({"claim": "recorded"})),
            ("retention_days=365", json!({"retention_days": 365})),
            ("retention_days=null", json!({"retention_days": null})),
            ("recording=true", json!({"recording": true})),
            (
                "rights.remove=participants",
                json!({"rights": {"remove": "participants"}}),
            ),
            (
                "rights.remove=[\"dr-weber\"]",
                json!({"rights": {"remove": ["dr-weber"]}}),
            ),
            (
                &format!("recipients={digits},{digits}"),
                json!({"recipients": [digits, digits]}),
            ),
            ("recipients=", json!({"recipients": []})),
            (&format!("deny=[\"{digits}\"]"), json!({"deny": [digits]})),
            (&format!("consent={digits}"), json!({"consent": digits})),
            ("consent=null", json!({"consent": null})),
        ] {
            assert_eq!(
                Value::Object(object(&words(&[word])).unwrap()),
                expected,
                "{word}"
            );
        }
    }

    #[test]
    fn several_fields_are_one_change() {
        let change = read(&words(&[
            "claim=recorded",
            "rights.add=participants",
            "rights.policy=participants",
        ]))
        .unwrap();
        assert_eq!(change.claim, Some(gstmls::policy::Claim::Recorded));
        let rights = change.rights.unwrap();
        assert!(rights.add.is_some() && rights.policy.is_some() && rights.remove.is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (wrong, expected) in [
            (&["claim"][..], "claim cannot be read"),
            (&["claim=recorded", "file.json"], "not key=value"),
            (&["claim=recorded", "claim=strict"], "claim is given twice"),
            (&["rights=null", "rights.add=participants"], "given twice"),
            (&["clam=strict"], "unknown field `clam`"),
            (&["claim=open"], "unknown variant `open`"),
            (&["recipients=xyz"], "64 hex digits"),
            (&["="], "unknown field"),
        ] {
            let error = read(&words(wrong)).unwrap_err().to_string();
            assert!(error.contains(expected), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn a_file_holds_a_change_and_not_an_empty_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().to_str().unwrap().to_owned();
        std::fs::write(&name, r#"{"claim":"recorded"}"#).unwrap();
        assert!(read(std::slice::from_ref(&name)).is_ok());
        for content in ["{}", "", "[]", r#"{"claim":"recorded","room":"x"}"#] {
            std::fs::write(&name, content).unwrap();
            assert!(read(std::slice::from_ref(&name)).is_err(), "{content}");
        }
        std::fs::write(&name, vec![b' '; 70_000]).unwrap();
        assert!(read(&[name]).unwrap_err().to_string().contains("more than"));
    }
}
