//! What people say about events: rows of the table `feedback`, which only grows. It is part of no night.

use deltalake_core::{
    kernel::{
        Action,
        transaction::{CommitBuilder, CommitProperties, TableReference},
    },
    protocol::{DeltaOperation, SaveMode},
};
use eventide_schema::{
    Feedback,
    tables::{feedback_batch, feedback_schema},
};
use uuid::Uuid;

use crate::{
    Error, PartFile, Result, Table, Tables,
    commit::{add, is_overtaken},
    parts::PartWriter,
    receipt::remove_quietly,
    tables::delta_error,
};

/// How often rows are added to the newest version before it is an error that others are faster.
const ATTEMPTS: usize = 10;

/// Whether a file is part of the table now.
enum Appended {
    Yes,
    /// Others were faster, in a way that this is to be tried again on what they made.
    Overtaken(Error),
}

impl Tables {
    /// Adds rows to `feedback`, which is made where there is none yet. All of them are there afterwards, or none.
    ///
    /// # Errors
    /// [`Error::Delta`], [`Error::Parquet`] when they cannot be written; [`Error::NotFound`] where the table is
    /// removed meanwhile.
    pub async fn add_feedback(&self, rows: &[Feedback]) -> Result<()> {
        let folder = self.folder(Table::Feedback);
        self.create_feedback().await?;
        let batch = feedback_batch(rows);
        let batch = batch.map_err(|source| Error::Rows { uri: folder.uri.clone(), source })?;
        let name = format!("part-{}.parquet", Uuid::now_v7());
        let mut part = PartWriter::create(&folder, name, &feedback_schema())?;
        part.write(&batch).await?;
        let part = part.finish().await?;
        for _ in 1..ATTEMPTS {
            match self.append_feedback(&part).await? {
                Appended::Yes => return Ok(()),
                Appended::Overtaken(_) => {} // as by another who has made the table anew
            }
        }
        match self.append_feedback(&part).await? {
            Appended::Yes => Ok(()),
            Appended::Overtaken(error) => {
                remove_quietly(&folder, vec![folder.child(&part.path)]).await;
                Err(error)
            }
        }
    }

    /// Adds a file to the newest version. Where others append meanwhile, it is tried again within. After any other
    /// error the request may still be under way: its file stays for it, or for a vacuum.
    async fn append_feedback(&self, part: &PartFile) -> Result<Appended> {
        let folder = self.folder(Table::Feedback);
        let table = self.delta(Table::Feedback, None).await?;
        let table = table.ok_or_else(|| Error::NotFound { uri: folder.uri.clone() })?;
        let wrong = |source| delta_error("commit to", &folder.uri, source);
        let state: &dyn TableReference = table.snapshot().map_err(wrong)?;
        let operation =
            DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        let made = CommitBuilder::from(CommitProperties::default())
            .with_actions(vec![Action::Add(add(part))])
            .build(Some(state), table.log_store(), operation)
            .await;
        match made {
            Ok(_) => Ok(Appended::Yes),
            Err(failure) if is_overtaken(&failure) => Ok(Appended::Overtaken(wrong(failure))),
            Err(failure) => Err(wrong(failure)),
        }
    }

    async fn create_feedback(&self) -> Result<()> {
        if self.delta(Table::Feedback, None).await?.is_some() {
            return Ok(());
        }
        if let Err(error) = self.create_table(Table::Feedback).await
            && self.delta(Table::Feedback, None).await?.is_none()
        {
            return Err(error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use arrow::array::AsArray;
    use eventide_schema::Verdict;

    use super::*;
    use crate::Stores;

    fn feedback(event_id: &str, verdict: Verdict) -> Feedback {
        Feedback {
            event_id: event_id.to_owned(),
            video_id: "v".to_owned(),
            uri: "file:///v.mp4".to_owned(),
            source_version: "1".to_owned(),
            run_id: "r".to_owned(),
            model_digest: "m".to_owned(),
            verdict,
            caption: (verdict == Verdict::Edited).then(|| "a better one".to_owned()),
            start_ms: None,
            end_ms: None,
            who: "ada".to_owned(),
            at_ms: 1_700_000_000_000,
        }
    }

    async fn event_ids(tables: &Tables) -> Vec<String> {
        let table = tables.delta(Table::Feedback, None).await.unwrap().unwrap();
        let mut ids = Vec::new();
        tables
            .scan(Table::Feedback, &table, &["event_id"], |batch| {
                ids.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
            })
            .await
            .unwrap();
        ids.sort();
        ids
    }

    #[tokio::test]
    async fn what_many_say_at_once_is_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let uri = format!("file://{}", folder.path().display());
        let tables = Arc::new(Tables::open(&Stores::new(BTreeMap::new()), &uri).unwrap());
        let mut said = tokio::task::JoinSet::new();
        for number in 0..8 {
            let tables = Arc::clone(&tables);
            said.spawn(async move {
                let row = feedback(&format!("event-{number}"), Verdict::Edited);
                tables.add_feedback(&[row]).await.unwrap();
            });
        }
        said.join_all().await;
        let expected: Vec<_> = (0..8).map(|number| format!("event-{number}")).collect();
        assert_eq!(event_ids(&tables).await, expected);
    }

    #[tokio::test]
    async fn a_vacuum_keeps_what_people_said() {
        let folder = tempfile::tempdir().unwrap();
        let uri = format!("file://{}", folder.path().display());
        let tables = Tables::open(&Stores::new(BTreeMap::new()), &uri).unwrap();
        tables.add_feedback(&[feedback("event", Verdict::Right)]).await.unwrap();
        std::fs::write(folder.path().join("feedback/part-lost.parquet"), "").unwrap();
        let later = chrono::Utc::now() + chrono::Duration::hours(2);
        let orphans = tables.orphans_before(later).await.unwrap();
        assert_eq!(orphans.len(), 1, "{orphans:?}");
        assert!(orphans[0].uri.ends_with("feedback/part-lost.parquet"), "{orphans:?}");
        tables.remove_orphans(&orphans).await.unwrap();
        assert_eq!(event_ids(&tables).await, ["event"]);
    }
}
