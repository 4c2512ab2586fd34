//! From texts to vectors.

use crate::Server;
use crate::refusal::Refused;
use axum::http::StatusCode;
use candlewick::{DType, Session, Submit};

/// A text of a request.
pub enum Text {
    Words(String),
    Ids(Vec<u32>),
}

/// The vectors of a request.
pub struct Embedded {
    pub vectors: Vec<Vec<f32>>,
    pub tokens: usize,
}

impl Server {
    /// One vector for each text. Whoever drops this future (the client has gone) withdraws what has
    /// not begun.
    pub(crate) async fn embed(&self, texts: Vec<Text>) -> Result<Embedded, Refused> {
        let most = self.limits.texts;
        if texts.is_empty() || texts.len() > most {
            let message = format!("{} texts, expected 1 to {most}", texts.len());
            return Err(Refused::bad(message));
        }
        if self.admission.is_full() {
            return Err(Refused::full(self));
        }
        // A request is a producer: one of 2048 texts holds up one of a single text by a batch.
        let how = Submit::within(self.limits.time).session(&Session::new());
        let mut all = Vec::with_capacity(texts.len());
        for (at, text) in texts.into_iter().enumerate() {
            all.push(self.ids(at, text)?);
            tokio::task::coop::consume_budget().await;
        }
        let tokens = all.iter().map(Vec::len).sum();
        let Some(admitted) = self.admission.admit(tokens) else {
            return Err(Refused::full(self));
        };
        let mut handles = Vec::with_capacity(all.len());
        for ids in all {
            let embedding = self.encoder.embed(&ids)?.to_dtype(DType::F32)?;
            let submitted = self.executor.submit_async_with(&embedding, how.clone());
            handles.push(submitted.await?);
            tokio::task::coop::consume_budget().await;
        }
        let mut vectors = Vec::with_capacity(handles.len());
        for handle in handles {
            let vector = handle.await?.to_vec1();
            let vector =
                vector.map_err(|e| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()));
            vectors.push(vector?);
        }
        admitted.done();
        self.metrics.embedded(vectors.len(), tokens);
        Ok(Embedded { vectors, tokens })
    }

    /// The ids of the text at this place of its request.
    fn ids(&self, at: usize, text: Text) -> Result<Vec<u32>, Refused> {
        let refuse = |message: String| Refused::bad(format!("text {at}: {message}"));
        let most = self.texts.most();
        let too_long = || refuse(format!("more than {most} tokens"));
        match text {
            Text::Words(words) if self.limits.cut => {
                self.texts.ids(&words).map_err(|e| refuse(e.to_string()))
            }
            Text::Words(words) => {
                let ids = self.texts.whole_ids(&words);
                ids.map_err(|e| refuse(e.to_string()))?.ok_or_else(too_long)
            }
            Text::Ids(ids) => {
                let vocabulary = self.encoder.model().vocab_size();
                if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                    return Err(refuse(format!("id {id} is not below {vocabulary}")));
                }
                match ids.len() {
                    0 => Err(refuse("no tokens".to_owned())),
                    long if long > most => Err(too_long()),
                    _ => Ok(ids),
                }
            }
        }
    }
}
