//! The language of a recogniser, as people write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `auto`, or the code of a language such as `en`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LanguageOption(pub(crate) Option<String>);

impl TryFrom<String> for LanguageOption {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let is_code = (2..=3).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_lowercase());
        is_code.then_some(Self(Some(text.clone()))).ok_or_else(|| {
            format!("expected `auto` or the code of a language such as `en`, not `{text}`")
        })
    }
}

impl From<LanguageOption> for String {
    fn from(language: LanguageOption) -> Self {
        language.0.unwrap_or_else(|| "auto".to_owned())
    }
}

impl JsonSchema for LanguageOption {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Language".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^(auto|[a-z]{2,3})$" })
    }
}
