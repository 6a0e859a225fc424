//! Collects what must be known of a schema before it is compiled: its draft, its parts with their addresses and anchors
//! (JSON Schema Core 2020-12 §8), the targets of its references, and its patterns.

use super::patterns::Patterns;
use super::{BASE, Dialect, Fault, KeywordValue, MAX_FAULTS, MAX_SUBSCHEMAS};
use super::{child, cost, fault, fragment, keyword_value, refuse};
use serde_json::{Map, Value};
use std::collections::HashSet;
use url::Url;

struct Anchor {
    resource: usize,
    name: String,
    at: String,
    dynamic: bool,
}

pub(super) struct Reference {
    pub at: String,
    pub keyword: String,
    pub text: String,
    pub resource: usize,
    /// Pointers to the possible targets; empty for the metaschema.
    pub targets: Vec<String>,
}

/// What must be known of a schema before it is compiled.
pub(super) struct Survey<'a> {
    document: &'a Value,
    /// The one draft of the whole document.
    pub dialect: Dialect,
    /// A pointer to every subschema.
    pub schemas: Vec<String>,
    seen: HashSet<String>,
    /// Where each part with an `$id` begins, and its address. The root is always first.
    resources: Vec<(String, Url)>,
    anchors: Vec<Anchor>,
    pub references: Vec<Reference>,
    pub patterns: Patterns,
    faults: Vec<Fault>,
}

impl<'a> Survey<'a> {
    /// Surveys the whole document, or returns all its faults.
    pub fn of(document: &'a Value) -> Result<Survey<'a>, Vec<Fault>> {
        let Ok(base) = Url::parse(BASE) else {
            return refuse("cannot be placed".into());
        };
        let named = document.get("$schema").and_then(Value::as_str);
        let Some(dialect) = named.map_or(Some(Dialect::default()), Dialect::named) else {
            let detail = format!("is not a supported draft: {}. Without it, the last one applies", Dialect::all());
            return Err(vec![fault("/$schema", &detail)]);
        };
        let mut survey = Survey {
            document,
            dialect,
            schemas: Vec::new(),
            seen: HashSet::new(),
            resources: vec![(String::new(), base)],
            anchors: Vec::new(),
            references: Vec::new(),
            patterns: Patterns::default(),
            faults: Vec::new(),
        };
        survey.walk(document, String::new(), 0);
        survey.follow();
        if survey.schemas.len() > MAX_SUBSCHEMAS {
            return refuse(format!("has more than {MAX_SUBSCHEMAS} subschemas"));
        }
        survey.faults.extend(survey.patterns.faults());
        match survey.faults.is_empty() {
            true => Ok(survey),
            false => Err(survey.faults.into_iter().take(MAX_FAULTS).collect()),
        }
    }

    fn walk(&mut self, schema: &'a Value, at: String, mut resource: usize) {
        if self.schemas.len() > MAX_SUBSCHEMAS || !self.seen.insert(at.clone()) {
            return;
        }
        self.schemas.push(at.clone());
        let Value::Object(keywords) = schema else {
            return;
        };
        let is_alone = self.dialect.is_alone(keywords);
        if let Some(Value::String(id)) = keywords.get(self.dialect.id()).filter(|_| !is_alone) {
            resource = self.enter(id, &at, resource);
            let anchor = id.split_once('#').map_or("", |(_, anchor)| anchor);
            if self.dialect.has_anchors_in_ids() && !anchor.is_empty() && !anchor.starts_with('/') {
                self.anchor(&at, self.dialect.id(), fragment(id).as_deref().unwrap_or(anchor), resource);
            }
        }
        for (keyword, value) in keywords {
            let here = child(&at, keyword);
            match value {
                Value::String(text) if self.dialect.is_reference(keyword) => {
                    let (at, keyword, text) = (at.clone(), keyword.clone(), text.clone());
                    self.references.push(Reference { at, keyword, text, resource, targets: Vec::new() });
                }
                // The metaschema checks the siblings of a reference too, and so do the cost limits.
                _ if !is_alone || keyword != "$schema" => self.keyword(keywords, keyword, &at, resource),
                _ => {}
            }
            if !self.dialect.knows(keyword) {
                continue;
            }
            match (keyword_value(keyword, value), value) {
                (Some(KeywordValue::Schema), inner) => self.walk(inner, here, resource),
                (Some(KeywordValue::List), Value::Array(list)) => {
                    for (index, inner) in list.iter().enumerate() {
                        self.walk(inner, format!("{here}/{index}"), resource);
                    }
                }
                (Some(KeywordValue::Map), Value::Object(map)) => {
                    for (name, inner) in map {
                        self.walk(inner, child(&here, name), resource);
                    }
                }
                _ => {}
            }
        }
    }

    /// Handles what a keyword means besides its subschemas.
    fn keyword(&mut self, keywords: &'a Map<String, Value>, keyword: &str, at: &str, resource: usize) {
        let here = child(at, keyword);
        match (keyword, keywords.get(keyword)) {
            ("$schema", Some(Value::String(draft))) if Dialect::named(draft) != Some(self.dialect) => {
                let detail = format!("must be {}: a document has a single draft", self.dialect.url());
                self.faults.push(fault(&here, &detail));
            }
            (_, Some(Value::String(name))) if self.dialect.is_anchor(keyword) => {
                self.anchor(at, keyword, name, resource);
            }
            ("pattern", Some(Value::String(pattern))) => {
                let most = keywords.get("maxLength").and_then(Value::as_u64);
                self.patterns.add(&here, pattern, most);
            }
            ("patternProperties", Some(Value::Object(map))) => {
                for name in map.keys() {
                    self.patterns.add(&child(&here, name), name, None);
                }
            }
            // The metaschema requires their items to be unique.
            ("required" | "enum" | "type", Some(Value::Array(items))) if !cost::can_be_distinguished(items) => {
                self.faults.push(fault(&here, "has too many items that are arrays of arrays"));
            }
            ("dependencies" | "dependentRequired", Some(Value::Object(map))) => {
                let lists = map.iter().filter_map(|(name, names)| Some((name, names.as_array()?)));
                for (name, _) in lists.filter(|(_, names)| !cost::can_be_distinguished(names)) {
                    self.faults.push(fault(&child(&here, name), "has too many items that are arrays of arrays"));
                }
            }
            _ => {}
        }
    }

    fn anchor(&mut self, at: &str, keyword: &str, name: &str, resource: usize) {
        let same = |a: &Anchor| a.resource == resource && a.name == *name && a.at != at;
        if self.anchors.iter().any(same) {
            self.faults.push(fault(&child(at, keyword), "is already the name of another anchor"));
        }
        let dynamic = keyword == "$dynamicAnchor";
        self.anchors.push(Anchor { resource, name: name.into(), at: at.into(), dynamic });
    }

    /// Enters a part with its own address at `at`.
    fn enter(&mut self, id: &str, at: &str, resource: usize) -> usize {
        let id = id.split('#').next().unwrap_or_default();
        let base = self.resources.get(resource).map(|(_, base)| base);
        let Some(Ok(url)) = base.map(|base| base.join(id)) else {
            self.faults.push(fault(&child(at, self.dialect.id()), "is not a URI reference"));
            return resource;
        };
        match self.resources.iter_mut().find(|(start, known)| start == at || *known == url) {
            Some((start, known)) if start == at => *known = url,
            Some(_) if id.is_empty() => return resource,
            Some(_) => {
                let keyword = self.dialect.id();
                let detail = format!("is already the {keyword} of another part");
                self.faults.push(fault(&child(at, keyword), &detail));
            }
            None => self.resources.push((at.into(), url)),
        }
        self.resources.iter().position(|(start, _)| start == at).unwrap_or(resource)
    }

    /// Resolves every reference, and walks parts that are schemas only because a reference leads there.
    fn follow(&mut self) {
        let mut next = 0;
        while let Some(reference) = self.references.get(next) {
            match self.resolve(reference) {
                Ok(targets) => {
                    for at in &targets {
                        let within = |(start, _): &(String, Url)| {
                            at.strip_prefix(start.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                        };
                        // The innermost part that contains it.
                        let held = self.resources.iter().enumerate().filter(|(_, r)| within(r));
                        let resource = held.max_by_key(|(_, (start, _))| start.len());
                        if let (Some(schema), Some((resource, _))) = (self.document.pointer(at), resource) {
                            self.walk(schema, at.clone(), resource);
                        }
                    }
                    if let Some(reference) = self.references.get_mut(next) {
                        reference.targets = targets;
                    }
                }
                Err(detail) => {
                    let at = child(&reference.at, &reference.keyword);
                    self.faults.push(fault(&at, detail));
                }
            }
            next += 1;
        }
    }

    fn resolve(&self, reference: &Reference) -> Result<Vec<String>, &'static str> {
        let (address, _) = reference.text.split_once('#').unwrap_or((&reference.text, ""));
        let (start, base) = self.resources.get(reference.resource).ok_or("has no base")?;
        let (mut resource, mut start) = (reference.resource, start);
        if !address.is_empty() {
            let url = base.join(address).map_err(|_| "is not a URI reference")?;
            let own = self.resources.iter().position(|(_, known)| *known == url);
            resource = match own {
                Some(own) => own,
                None if url.as_str() == BASE => 0,
                None if Url::parse(self.dialect.url()).is_ok_and(|own| own == url) => return Ok(Vec::new()),
                None => return Err("refers outside of this document: put the target under $defs"),
            };
            start = self.resources.get(resource).map_or(start, |(start, _)| start);
        }
        let inside = fragment(&reference.text).ok_or("is not a URI reference")?;
        let at = if inside.is_empty() || inside.starts_with('/') {
            format!("{start}{inside}")
        } else {
            let named = |a: &&Anchor| a.name == inside;
            let mut anchors = self.anchors.iter().filter(named);
            let anchor = anchors.find(|a| a.resource == resource).ok_or("names an unknown anchor")?;
            if reference.keyword == "$dynamicRef" && anchor.dynamic {
                // The outermost part with such an anchor wins, and that is always the root if it has one; otherwise it
                // depends on the path taken.
                let dynamic = || self.anchors.iter().filter(named).filter(|a| a.dynamic);
                let outermost = dynamic().find(|a| a.resource == 0);
                return Ok(match outermost {
                    Some(outermost) => vec![outermost.at.clone()],
                    None => dynamic().map(|a| a.at.clone()).collect(),
                });
            }
            anchor.at.clone()
        };
        match self.document.pointer(&at) {
            // The outermost part with such an anchor wins, as above; boon only knows it for the root.
            Some(part) if reference.keyword == "$recursiveRef" && is_recursive(part) => {
                match is_recursive(self.document) {
                    true => Ok(vec![String::new()]),
                    false => Err("leads to a $recursiveAnchor, where the whole document has none"),
                }
            }
            Some(Value::Object(_) | Value::Bool(_)) => Ok(vec![at]),
            Some(_) => Err("refers to something that is not a schema"),
            None => Err("refers to nothing in this document"),
        }
    }

    /// The start of the part that a reference is relative to.
    pub fn start_of(&self, reference: &Reference) -> &str {
        let target = reference.targets.first().map_or("", String::as_str);
        let holds = |(start, _): &&(String, Url)| {
            target.strip_prefix(start.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let address = reference.text.split('#').next().unwrap_or_default();
        if address.is_empty() {
            return self.resources.get(reference.resource).map_or("", |(start, _)| start);
        }
        self.resources
            .iter()
            .filter(holds)
            .map(|(start, _)| start.as_str())
            .max_by_key(|start| start.len())
            .unwrap_or("")
    }
}

fn is_recursive(part: &Value) -> bool {
    part.get("$recursiveAnchor") == Some(&Value::Bool(true))
}
