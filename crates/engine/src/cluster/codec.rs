//! What of ours travels in a plan, and how. The only file that knows the form.
//!
//! Each of our nodes is an envelope: [`MAGIC`], then JSON with the build that wrote it and, in a cluster
//! that has a secret, the node's signature. What has no magic is Ballista's own. An envelope of another
//! build is refused: the same bytes could mean something else there.

use std::{any::Any, sync::Arc};

use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::TableProvider,
    common::{DataFusionError, Result, TableReference, exec_datafusion_err, plan_datafusion_err},
    datasource::file_format::FileFormatFactory,
    execution::TaskContext,
    logical_expr::{Extension, LogicalPlan},
    physical_plan::ExecutionPlan,
};
use datafusion_proto::{
    logical_plan::LogicalExtensionCodec,
    physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension},
};
use serde::{Deserialize, Serialize};

use super::{secret::Secret, table::RunTable};
use crate::{BUILD, CaptionExec, CaptionOptions, CaptionTable, IndexExec, IndexOptions};

/// How an envelope begins.
const MAGIC: &[u8] = b"eventide\0";

/// A node of ours and who wrote it.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<N> {
    build: String,
    /// A [`Node`] as JSON text, so that what is signed is what is read.
    node: N,
    /// The signature of `node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
}

/// What stands in an envelope.
#[derive(Debug, Serialize, Deserialize)]
enum Node {
    /// A [`RunTable`].
    Run(IndexOptions),
    /// An [`IndexExec`].
    Index(IndexOptions),
    /// A [`CaptionTable`].
    Captions(CaptionOptions),
    /// A [`CaptionExec`] and the columns that it gives.
    Caption(CaptionOptions, Option<Vec<usize>>),
}

fn seal(node: &Node, secret: Option<&Secret>, buffer: &mut Vec<u8>) -> Result<()> {
    let unwritten = |error: serde_json::Error| DataFusionError::External(error.into());
    let node = serde_json::to_string(node).map_err(unwritten)?;
    let proof = secret.map(|secret| secret.sign(&node));
    buffer.extend_from_slice(MAGIC);
    serde_json::to_writer(buffer, &Envelope { build: BUILD.to_owned(), node, proof })
        .map_err(unwritten)
}

/// The node in an envelope; `None` where the bytes are none of ours.
fn open(buffer: &[u8], secret: Option<&Secret>) -> Result<Option<Node>> {
    let Some(text) = buffer.strip_prefix(MAGIC) else { return Ok(None) };
    let garbled = |error| plan_datafusion_err!("a plan of ours cannot be read: {error}");
    // The build first: what it says of the node need not be understood before.
    let Envelope { build: theirs, .. }: Envelope<serde::de::IgnoredAny> =
        serde_json::from_slice(text).map_err(garbled)?;
    if theirs != BUILD {
        return Err(plan_datafusion_err!(
            "this process is `{BUILD}`, and the plan was made by `{theirs}`: use the same build of eventide for the \
             client, the scheduler and the executors"
        ));
    }
    let Envelope { node, proof, .. }: Envelope<String> =
        serde_json::from_slice(text).map_err(garbled)?;
    if let Some(secret) = secret
        && !proof.is_some_and(|proof| secret.signed(&node, &proof))
    {
        return Err(plan_datafusion_err!("the plan is not signed with the token of this cluster"));
    }
    serde_json::from_str(&node).map(Some).map_err(garbled)
}

/// Ballista's codec for logical plans, with our tables.
#[derive(Debug, Default)]
pub(super) struct LogicalCodec {
    others: BallistaLogicalExtensionCodec,
    secret: Option<Secret>,
}

impl LogicalCodec {
    /// The codec of a process with this secret.
    pub(super) fn new(secret: Option<Secret>) -> Self {
        Self { others: BallistaLogicalExtensionCodec::default(), secret }
    }
}

impl LogicalExtensionCodec for LogicalCodec {
    fn try_decode(
        &self,
        buffer: &[u8],
        inputs: &[LogicalPlan],
        context: &TaskContext,
    ) -> Result<Extension> {
        self.others.try_decode(buffer, inputs, context)
    }

    fn try_encode(&self, node: &Extension, buffer: &mut Vec<u8>) -> Result<()> {
        self.others.try_encode(node, buffer)
    }

    fn try_decode_table_provider(
        &self,
        buffer: &[u8],
        table: &TableReference,
        schema: SchemaRef,
        context: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        match open(buffer, self.secret.as_ref())? {
            Some(Node::Run(options)) => Ok(Arc::new(RunTable(options))),
            Some(Node::Captions(options)) => Ok(Arc::new(CaptionTable::elsewhere(options))),
            Some(Node::Index(_) | Node::Caption(..)) => {
                Err(plan_datafusion_err!("`{table}` is an operator, not a table"))
            }
            None => self.others.try_decode_table_provider(buffer, table, schema, context),
        }
    }

    fn try_encode_table_provider(
        &self,
        table: &TableReference,
        provider: Arc<dyn TableProvider>,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let ours = provider.as_ref() as &dyn Any;
        let node = if let Some(RunTable(options)) = ours.downcast_ref() {
            Node::Run(options.clone())
        } else if let Some(captions) = ours.downcast_ref::<CaptionTable>() {
            Node::Captions(captions.options().clone())
        } else {
            return self.others.try_encode_table_provider(table, provider, buffer);
        };
        seal(&node, self.secret.as_ref(), buffer)
    }

    fn try_decode_file_format(
        &self,
        buffer: &[u8],
        context: &TaskContext,
    ) -> Result<Arc<dyn FileFormatFactory>> {
        self.others.try_decode_file_format(buffer, context)
    }

    fn try_encode_file_format(
        &self,
        buffer: &mut Vec<u8>,
        format: Arc<dyn FileFormatFactory>,
    ) -> Result<()> {
        self.others.try_encode_file_format(buffer, format)
    }
}

/// Ballista's codec for physical plans, with our operators.
#[derive(Debug, Default)]
pub(super) struct PhysicalCodec {
    others: BallistaPhysicalExtensionCodec,
    secret: Option<Secret>,
}

impl PhysicalCodec {
    /// The codec of a process with this secret.
    pub(super) fn new(secret: Option<Secret>) -> Self {
        Self { others: BallistaPhysicalExtensionCodec::default(), secret }
    }
}

impl PhysicalExtensionCodec for PhysicalCodec {
    fn try_decode(
        &self,
        buffer: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = || match inputs {
            [input] => Ok(Arc::clone(input)),
            _ => Err(exec_datafusion_err!("our operators have one input, not {}", inputs.len())),
        };
        match open(buffer, self.secret.as_ref())? {
            Some(Node::Index(options)) => Ok(Arc::new(IndexExec::new(input()?, Arc::new(options)))),
            Some(Node::Caption(options, projection)) => {
                Ok(Arc::new(CaptionExec::new(input()?, Arc::new(options), projection)?))
            }
            Some(Node::Run(_) | Node::Captions(_)) => {
                Err(plan_datafusion_err!("a table stands where an operator should"))
            }
            None => self.others.try_decode(buffer, inputs, context, converter),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buffer: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let ours = if let Some(index) = node.downcast_ref::<IndexExec>() {
            Node::Index(index.options().clone())
        } else if let Some(caption) = node.downcast_ref::<CaptionExec>() {
            Node::Caption(caption.options().clone(), caption.projection().cloned())
        } else {
            return self.others.try_encode(node, buffer, converter);
        };
        seal(&ours, self.secret.as_ref(), buffer)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::physical_plan::{ExecutionPlanProperties, displayable};
    use datafusion_proto::{physical_plan::AsExecutionPlan, protobuf::PhysicalPlanNode};
    use eventide_catalog::{PlanFile, ShardPlace};
    use rstest::rstest;

    use super::*;
    use crate::{index_plan, testing::index_options};

    const SECRET: &str = "the secret of this cluster";

    fn plan(shards: usize) -> Arc<dyn ExecutionPlan> {
        let place = |number: usize| ShardPlace {
            shard_id: format!("s{number}"),
            offset: number as u64 * 10,
            length: 10,
            videos: 1,
        };
        let plan = PlanFile {
            format_version: 1,
            name: "p".to_owned(),
            run_id: "r".to_owned(),
            shards: (0..shards).map(place).collect(),
        };
        index_plan(index_options(), &plan).unwrap()
    }

    #[test]
    fn the_plan_comes_back_with_its_partitions() {
        let codec = PhysicalCodec::default();
        let sent = PhysicalPlanNode::try_from_physical_plan(plan(3), &codec).unwrap();
        let came = sent.try_into_physical_plan(&TaskContext::default(), &codec).unwrap();
        assert_eq!(came.output_partitioning().partition_count(), 3);
        let (came, plan) = (displayable(came.as_ref()), plan(3));
        assert_eq!(
            came.indent(true).to_string(),
            displayable(plan.as_ref()).indent(true).to_string()
        );
    }

    #[test]
    fn a_run_comes_back_as_it_was() {
        let (codec, name) = (LogicalCodec::default(), TableReference::bare("run"));
        let mut buffer = Vec::new();
        let table = Arc::new(RunTable(index_options()));
        codec.try_encode_table_provider(&name, table.clone(), &mut buffer).unwrap();
        let context = TaskContext::default();
        let came =
            codec.try_decode_table_provider(&buffer, &name, table.schema(), &context).unwrap();
        assert_eq!((came.as_ref() as &dyn Any).downcast_ref::<RunTable>(), Some(&*table));
    }

    #[test]
    fn captions_come_back_with_their_columns_and_partitions() {
        let options = crate::testing::caption_options();
        let (codec, name) = (LogicalCodec::default(), TableReference::bare("caption"));
        let mut buffer = Vec::new();
        let table = Arc::new(CaptionTable::elsewhere(options.clone()));
        codec.try_encode_table_provider(&name, table.clone(), &mut buffer).unwrap();
        let context = TaskContext::default();
        let came =
            codec.try_decode_table_provider(&buffer, &name, table.schema(), &context).unwrap();
        let came: &CaptionTable = (came.as_ref() as &dyn Any).downcast_ref().unwrap();
        assert_eq!(came.options(), &options);

        let shards = Arc::clone(plan(3).children()[0]);
        let caption: Arc<dyn ExecutionPlan> =
            Arc::new(CaptionExec::new(shards, Arc::new(options), Some(vec![1, 4])).unwrap());
        let codec = PhysicalCodec::default();
        let sent = PhysicalPlanNode::try_from_physical_plan(Arc::clone(&caption), &codec).unwrap();
        let came = sent.try_into_physical_plan(&context, &codec).unwrap();
        assert_eq!(came.output_partitioning().partition_count(), 3);
        assert_eq!(came.schema(), caption.schema());
        assert_eq!(came.schema().fields().len(), 2);
    }

    #[rstest]
    #[case::ours(Some(SECRET), Some(SECRET), true)]
    #[case::not_signed(None, Some(SECRET), false)]
    #[case::another_secret(Some("the secret of another cluster"), Some(SECRET), false)]
    #[case::nobody_asks(Some(SECRET), None, true)]
    fn a_signature_is_asked_for(
        #[case] theirs: Option<&str>,
        #[case] ours: Option<&str>,
        #[case] taken: bool,
    ) {
        let secret = |text: Option<&str>| text.map(|text| Secret::new(text).unwrap());
        let mut buffer = Vec::new();
        seal(&Node::Index(index_options()), secret(theirs).as_ref(), &mut buffer).unwrap();
        let text = String::from_utf8(buffer.clone()).unwrap();
        assert!(!text.contains(SECRET), "{text}");
        match open(&buffer, secret(ours).as_ref()) {
            Ok(node) => assert!(taken && node.is_some()),
            Err(error) => {
                assert!(!taken && error.to_string().contains("token of this cluster"), "{error}");
            }
        }
    }

    #[test]
    fn a_node_that_was_changed_is_refused() {
        let secret = Secret::new(SECRET).unwrap();
        let mut buffer = Vec::new();
        seal(&Node::Index(index_options()), Some(&secret), &mut buffer).unwrap();
        let text = String::from_utf8(buffer).unwrap();
        let changed = text.replace("s3://lake/tables", "s3://elsewhere/x");
        assert_ne!(changed, text);
        assert!(open(changed.as_bytes(), Some(&secret)).is_err());
    }

    #[test]
    fn a_plan_of_another_build_is_refused_by_name() {
        let mut buffer = MAGIC.to_vec();
        buffer.extend_from_slice(br#"{"build": "9.0.0+0123456789abcdef", "node": {"New": 1}}"#);
        let error = open(&buffer, None).unwrap_err().to_string();
        assert!(error.contains("9.0.0+0123456789abcdef"), "{error}");
        assert!(error.contains(BUILD) && error.contains("same build"), "{error}");
    }

    #[test]
    fn bytes_that_are_not_ours_are_left_to_others() {
        assert!(open(b"something else", None).unwrap().is_none());
        assert!(open(b"eventide\0{", None).is_err());
    }
}
