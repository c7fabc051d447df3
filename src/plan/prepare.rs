//! Everything that a trial sends, rendered before its clock starts.
//!
//! Four kinds of plan, one result: renderings, and which of them request i sends.
//!
//! | plan | renderings | request i sends |
//! |---|---|---|
//! | without values | one per template | a seeded draw by weight |
//! | with values | one per request, `renderings` of them | rendering i modulo their number |
//! | a trace | one a different (method, path) | what its entry i asks |
//! | a trace with values, or numbered | one an entry | its entry i |
//!
//! Rendering is a pure function of (plan, data files, request index). What it holds is part of a
//! worker's memory baseline, the same for every engine, and bounded by [`MAX_BYTES`].

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::Arc;

use http::HeaderMap;

use super::request::{
    Draft, Mix, RenderError, RenderFault, Rendered, Text, assemble, header_map, method, render,
    render_one, resolve,
};
use super::trace::Trace;
use super::values::{DataError, Piece, Values, pieces};
use super::{Extent, RequestTemplate, TrialPlan};
use crate::units::{format_count, size_literal};

/// The header that numbers requests for `duel verify`.
pub(crate) const NUMBER_HEADER: &str = "x-duel-request";

/// Most bytes of all renderings, what they take beside their own bytes included.
pub(crate) const MAX_BYTES: u64 = 512 << 20;

/// What a rendering takes beside its bytes: [`Rendered`] itself, the count of its buffer, and what
/// the allocator adds.
pub(crate) const OVERHEAD_BYTES: u64 = size_of::<Rendered>() as u64 + 80;

/// Renderings of a plan with values that is bounded by time and names no number.
pub(crate) const RENDERINGS_BY_TIME: u64 = 10_000;

/// Most requests that are each rendered unless the plan names a number of renderings.
pub(crate) const RENDERINGS_MOST: u64 = 1_000_000;

#[derive(Debug, Clone)]
pub struct Prepared {
    pub mix: Mix,
    pub rendered: Vec<Rendered>,
    /// The entries of a trace, which are also its schedule.
    pub trace: Option<Arc<Trace>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Data(#[from] DataError),
}

pub fn prepare(plan: &TrialPlan) -> Result<Prepared, PrepareError> {
    // A cell that sends nothing has a closed loop and needs no trace.
    let file = plan.trace.as_ref().filter(|_| plan.arrivals.is_open());
    let trace = file.map(|file| file.load(&plan.mix)).transpose()?;
    let each = !plan.values.is_empty() || plan.numbered;
    let (mix, rendered) = match &trace {
        None if !each => (Mix::new(plan), render(plan)?),
        None => {
            let mix = Mix::new(plan);
            let pool = if plan.values.is_empty() { u64::MAX } else { renderings(plan) };
            let count = match plan.extent {
                // Each request has its own number, and else what the pool has in its place.
                Extent::Requests(requests) if plan.numbered => requests,
                _ => renderings(plan),
            };
            let renderer = Renderer { pool, ..Renderer::new(plan, &plan.mix)? };
            (Mix::cycle(count), renderer.all(count, |index| (mix.pick(index % pool), None))?)
        }
        Some(trace) => replayed(plan, trace, each)?,
    };
    Ok(Prepared { mix, rendered, trace: trace.map(Arc::new) })
}

/// Renders the entries of a trace, or its different requests.
fn replayed(
    plan: &TrialPlan,
    trace: &Trace,
    each: bool,
) -> Result<(Mix, Vec<Rendered>), PrepareError> {
    // The first template of a method has its headers; a method that none names has none.
    let mut templates = plan.mix.clone();
    let mut of_request = Vec::with_capacity(trace.requests.len());
    for (method, _) in &trace.requests {
        let known = templates.iter().position(|template| template.method == *method);
        of_request.push(known.unwrap_or_else(|| {
            templates.push(RequestTemplate { method: method.clone(), ..Default::default() });
            templates.len() - 1
        }));
    }
    let renderer = Renderer::new(plan, &templates)?;
    let path = |pick: usize| Some(trace.requests[pick].1.as_str());
    if each {
        let pick = |index: u64| trace.picks[index as usize] as usize;
        let all = renderer.all(trace.len(), |i| (of_request[pick(i)], path(pick(i))))?;
        return Ok((Mix::cycle(trace.len()), all));
    }
    let count = trace.requests.len() as u64;
    let all = renderer.all(count, |i| (of_request[i as usize], path(i as usize)))?;
    Ok((Mix::listed(trace.picks.clone()), all))
}

pub(crate) fn renderings(plan: &TrialPlan) -> u64 {
    match (plan.renderings, plan.extent) {
        (Some(count), Extent::Requests(requests)) => count.min(requests),
        (Some(count), Extent::DurationNs(_)) => count,
        (None, Extent::Requests(requests)) => requests,
        (None, Extent::DurationNs(_)) => RENDERINGS_BY_TIME,
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

struct Split<'p> {
    draft: Draft<'p>,
    /// What there is to fill in; `None` where a text holds no value.
    path: Option<Vec<Piece<'p>>>,
    headers: Vec<Option<Vec<Piece<'p>>>>,
    body: Option<Vec<Piece<'p>>>,
    /// The headers, where they are the same in every rendering.
    map: Option<Arc<HeaderMap>>,
}

/// The pieces of a text, if it has to be filled in.
fn to_fill(text: &[u8]) -> Option<Vec<Piece<'_>>> {
    std::str::from_utf8(text).ok()?;
    let pieces = pieces(text);
    let as_it_is = pieces.is_empty() || pieces == [Piece::Text(text)];
    (!as_it_is).then_some(pieces)
}

impl<'p> Split<'p> {
    fn new(plan: &TrialPlan, template: &'p RequestTemplate) -> Result<Self, RenderFault> {
        let draft = Draft::of(template);
        // Without values every text is sent as it is written.
        let fill = |text: &'p [u8]| to_fill(text).filter(|_| !plan.values.is_empty());
        let headers: Vec<_> = template.headers.iter().map(|(_, v)| fill(v.as_bytes())).collect();
        let body = fill(&template.body);
        let mut map = None;
        if body.is_none() && headers.iter().all(Option::is_none) && !plan.numbered {
            let method = method(draft.method)?;
            let (body, _) = resolve(&draft.body, &variable)?;
            let headers = header_map(plan, &draft.headers, &method, body.len(), &variable)?;
            map = Some(Arc::new(headers));
        }
        Ok(Split { path: fill(template.path.as_bytes()), draft, headers, body, map })
    }
}

struct Renderer<'p> {
    plan: &'p TrialPlan,
    values: Values,
    templates: Vec<Split<'p>>,
    /// Values are those of the request's index modulo this.
    pool: u64,
}

impl<'p> Renderer<'p> {
    fn new(plan: &'p TrialPlan, templates: &'p [RequestTemplate]) -> Result<Self, PrepareError> {
        let values = Values::load(&plan.values, plan.seed)?;
        let split = |(index, template)| {
            Split::new(plan, template).map_err(|fault| RenderError { position: index + 1, fault })
        };
        let templates = templates.iter().enumerate().map(split).collect::<Result<_, _>>()?;
        Ok(Renderer { plan, values, templates, pool: u64::MAX })
    }

    /// Renders requests 0 to `count`; `of` gives the template of each and the path where it is
    /// not the template's.
    fn all<'t>(
        &self,
        count: u64,
        of: impl Fn(u64) -> (usize, Option<&'t str>),
    ) -> Result<Vec<Rendered>, RenderError> {
        let mut rendered = Vec::with_capacity(count.min(MAX_BYTES / OVERHEAD_BYTES) as usize);
        let mut bytes = 0;
        for index in 0..count {
            let (template, path) = of(index);
            let at = |fault| RenderError { position: template + 1, fault };
            let mut one = self.one(index, &self.templates[template], path).map_err(at)?;
            one.template = template as u32;
            bytes += one.bytes.len() as u64 + OVERHEAD_BYTES;
            if bytes > MAX_BYTES {
                return Err(at(too_many(count)));
            }
            rendered.push(one);
        }
        Ok(rendered)
    }

    fn one(
        &self,
        index: u64,
        split: &Split<'_>,
        path: Option<&str>,
    ) -> Result<Rendered, RenderFault> {
        let fill = |pieces: &Option<Vec<Piece<'_>>>| {
            let pieces = pieces.as_deref();
            let fill = |pieces| self.values.fill(pieces, index % self.pool);
            pieces.map(fill).transpose()
        };
        let path = match (path, fill(&split.path)?) {
            (Some(path), _) => Cow::Borrowed(path),
            (None, Some(path)) => {
                Cow::Owned(String::from_utf8(path).map_err(|_| RenderFault::NotText)?)
            }
            (None, None) => split.draft.path.clone(),
        };
        if let Some(map) = &split.map {
            let (body, _) = resolve(&split.draft.body, &variable)?;
            return assemble(method(split.draft.method)?, &path, map.clone(), &body);
        }
        let mut draft = Draft { path, ..split.draft.clone() };
        for ((_, text), pieces) in draft.headers.iter_mut().zip(&split.headers) {
            if let Some(filled) = fill(pieces)? {
                *text = Text::Filled(filled);
            }
        }
        if let Some(filled) = fill(&split.body)? {
            draft.body = Text::Filled(filled);
        }
        if self.plan.numbered {
            let number = Text::Filled(index.to_string().into_bytes());
            draft.headers.push((NUMBER_HEADER, number));
        }
        render_one(self.plan, &draft, &variable)
    }
}

fn too_many(count: u64) -> RenderFault {
    let (count, most) = (format_count(count), size_literal(MAX_BYTES));
    let way_out = "set plan.renderings to how many of them to render and send again and again";
    RenderFault::TooMany(format!("{count} renderings take more than {most}: {way_out}"))
}

#[cfg(test)]
mod tests;
