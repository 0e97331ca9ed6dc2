//! The files that the AWS tools keep for a person: `~/.aws/credentials` and `~/.aws/config`, and the profiles in them.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::StoreError;
use super::access::{MAX_FILE, for_owner_only};

/// Which profile is meant.
const PROFILE: &str = "AWS_PROFILE";

/// What they call where a store is. Secrets stand in the other file.
const PLACE: [&str; 2] = ["region", "endpoint_url"];

/// What they call who one is.
const WHO: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// Settings by the names that they have there.
pub type Settings = Vec<(String, Zeroizing<String>)>;

/// What a profile says.
#[derive(Default)]
pub struct Profile {
    /// Where the store is.
    pub place: Settings,
    /// Who one is there.
    pub who: Settings,
}

/// The profile that is named, or the one that is meant where none is. `of` tells a variable of the environment. A file that
/// is not there says nothing; a profile that is named must be in one. `needs_who`: nobody has said yet who one is.
pub fn profile(of: &dyn Fn(&str) -> Option<String>, needs_who: bool) -> Result<Profile, StoreError> {
    let named = of(PROFILE).filter(|name| !name.is_empty());
    let name = named.as_deref().unwrap_or("default");
    let file = |variable: &str, name: &str| {
        of(variable)
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&of("HOME")?).join(".aws").join(name)))
    };
    let mut found = Profile::default();
    let mut is_there = false;
    if let Some(path) = file("AWS_CONFIG_FILE", "config")
        && let Some(text) = read(&path)?
    {
        let title = match name {
            "default" => name.to_owned(),
            name => format!("profile {name}"),
        };
        is_there |= section(&text, &title, &PLACE, &mut found.place);
    }
    if let Some(path) = file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
        && needs_who
        && let Some(text) = read(&path)?
    {
        for_owner_only(&path)?;
        is_there |= section(&text, name, &WHO, &mut found.who);
    }
    match named {
        Some(name) if !is_there && needs_who => Err(StoreError::Configuration(format!(
            "there is no profile {name:?} ({PROFILE}) in the files of the AWS tools"
        ))),
        _ => Ok(found),
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, StoreError> {
    let bytes = match crate::bundle::read_bounded(path, MAX_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(StoreError::io(path))?,
    };
    // What is no text in such a file is none of the settings.
    let bytes = Zeroizing::new(bytes);
    Ok(Some(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())))
}

/// Takes the settings of these names in a section. False: there is no such section.
fn section(text: &str, title: &str, names: &[&str], settings: &mut Settings) -> bool {
    let (mut is_meant, mut is_there) = (false, false);
    for line in text.lines() {
        let inside = line
            .trim_end()
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(inside) = inside {
            is_meant = inside.split_whitespace().eq(title.split_whitespace());
            is_there |= is_meant;
            continue;
        }
        // A line that begins with a space belongs to the setting above it, which is none of ours.
        let setting = line
            .split_once('=')
            .filter(|_| is_meant && !line.starts_with(char::is_whitespace));
        if let Some((name, value)) = setting
            && names.contains(&name.trim())
        {
            settings.push((name.trim().to_owned(), Zeroizing::new(value.trim().to_owned())));
        }
    }
    is_there
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CONFIG: &str = "# ours\n[default]\nregion = eu-north-1\n[profile clinic]\nregion=eu-west-3\ns3 =\n  endpoint_url = \
                          https://nested.example\nendpoint_url = https://s3.clinic.example\n";
    const CREDENTIALS: &str = "[default]\naws_access_key_id = D\naws_secret_access_key = d\n\n[clinic]\n\
                               aws_access_key_id=C\naws_secret_access_key = c=c\n";

    fn home(mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let aws = dir.path().join(".aws");
        fs::create_dir(&aws).unwrap();
        fs::write(aws.join("config"), CONFIG).unwrap();
        fs::write(aws.join("credentials"), CREDENTIALS).unwrap();
        fs::set_permissions(aws.join("credentials"), fs::Permissions::from_mode(mode)).unwrap();
        dir
    }

    fn of(home: &tempfile::TempDir, name: Option<&str>, needs_who: bool) -> Result<Profile, StoreError> {
        let of = |variable: &str| match variable {
            "HOME" => home.path().to_str().map(str::to_owned),
            PROFILE => name.map(str::to_owned),
            _ => None,
        };
        profile(&of, needs_who)
    }

    fn plain(settings: &Settings) -> Vec<(&str, &str)> {
        settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    #[test]
    fn the_profile_that_is_named_says_where_and_who_and_else_the_default_one() {
        let home = home(0o600);
        let clinic = of(&home, Some("clinic"), true).unwrap();
        assert_eq!(
            plain(&clinic.place),
            [
                ("region", "eu-west-3"),
                ("endpoint_url", "https://s3.clinic.example")
            ]
        );
        assert_eq!(
            plain(&clinic.who),
            [("aws_access_key_id", "C"), ("aws_secret_access_key", "c=c")]
        );
        let default = of(&home, None, true).unwrap();
        assert_eq!(plain(&default.place), [("region", "eu-north-1")]);
        assert_eq!(default.who.len(), 2);
        assert_eq!(of(&home, None, false).unwrap().who.len(), 0);
    }

    #[test]
    fn a_profile_that_is_not_there_and_credentials_that_others_can_read_are_refused() {
        let good = home(0o600);
        let error = of(&good, Some("nobody"), true).err().unwrap().to_string();
        assert!(
            error.contains("nobody") && error.contains("AWS_PROFILE"),
            "{error}"
        );
        let error = of(&home(0o644), None, true).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        let nothing = tempfile::tempdir().unwrap();
        let none = of(&nothing, None, true).unwrap();
        assert!(none.place.is_empty() && none.who.is_empty());
    }
}
