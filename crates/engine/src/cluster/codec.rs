//! What of ours travels in a plan, and how. The only file that knows the form.
//!
//! Each of our nodes is an envelope: [`MAGIC`], then JSON with the build that wrote it. What has no
//! magic is Ballista's own. An envelope of another build is refused: the same bytes could mean
//! something else there.

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

use super::table::RunTable;
use crate::{IndexExec, IndexOptions, PIPELINE_VERSION, params::RULES_VERSION};

/// How an envelope begins.
const MAGIC: &[u8] = b"eventide\0";
/// Raised whenever the form of an envelope, or what its nodes mean, changes.
const FORM: u32 = 2;

/// A node of ours and who wrote it.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<N> {
    build: String,
    node: N,
}

/// What stands in an envelope.
#[derive(Debug, Serialize, Deserialize)]
enum Node {
    /// A [`RunTable`].
    Run(IndexOptions),
    /// An [`IndexExec`].
    Index(IndexOptions),
}

/// The build that this process is: two processes understand each other if these are equal.
pub(super) fn build() -> String {
    format!("{PIPELINE_VERSION} (plans {FORM}, rows {RULES_VERSION})")
}

fn seal(node: Node, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.extend_from_slice(MAGIC);
    let envelope = Envelope { build: build(), node };
    serde_json::to_writer(buffer, &envelope)
        .map_err(|error| DataFusionError::External(error.into()))
}

/// The node in an envelope; `None` where the bytes are none of ours.
fn open(buffer: &[u8]) -> Result<Option<Node>> {
    let Some(text) = buffer.strip_prefix(MAGIC) else { return Ok(None) };
    let garbled = |error| plan_datafusion_err!("a plan of ours cannot be read: {error}");
    // The build first: what it says of the node need not be understood before.
    let Envelope { build: theirs, .. }: Envelope<serde::de::IgnoredAny> =
        serde_json::from_slice(text).map_err(garbled)?;
    let ours = build();
    if theirs != ours {
        return Err(plan_datafusion_err!(
            "this process is `{ours}`, and the plan was made by `{theirs}`: use the same build of eventide for the \
             client, the scheduler and the executors"
        ));
    }
    let envelope: Envelope<Node> = serde_json::from_slice(text).map_err(garbled)?;
    Ok(Some(envelope.node))
}

/// Ballista's codec for logical plans, with our tables.
#[derive(Debug, Default)]
pub(super) struct LogicalCodec(BallistaLogicalExtensionCodec);

impl LogicalExtensionCodec for LogicalCodec {
    fn try_decode(
        &self,
        buffer: &[u8],
        inputs: &[LogicalPlan],
        context: &TaskContext,
    ) -> Result<Extension> {
        self.0.try_decode(buffer, inputs, context)
    }

    fn try_encode(&self, node: &Extension, buffer: &mut Vec<u8>) -> Result<()> {
        self.0.try_encode(node, buffer)
    }

    fn try_decode_table_provider(
        &self,
        buffer: &[u8],
        table: &TableReference,
        schema: SchemaRef,
        context: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        match open(buffer)? {
            Some(Node::Run(options)) => Ok(Arc::new(RunTable(options))),
            Some(Node::Index(_)) => {
                Err(plan_datafusion_err!("`{table}` is an operator, not a table"))
            }
            None => self.0.try_decode_table_provider(buffer, table, schema, context),
        }
    }

    fn try_encode_table_provider(
        &self,
        table: &TableReference,
        provider: Arc<dyn TableProvider>,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        match (provider.as_ref() as &dyn Any).downcast_ref::<RunTable>() {
            Some(RunTable(options)) => seal(Node::Run(options.clone()), buffer),
            None => self.0.try_encode_table_provider(table, provider, buffer),
        }
    }

    fn try_decode_file_format(
        &self,
        buffer: &[u8],
        context: &TaskContext,
    ) -> Result<Arc<dyn FileFormatFactory>> {
        self.0.try_decode_file_format(buffer, context)
    }

    fn try_encode_file_format(
        &self,
        buffer: &mut Vec<u8>,
        format: Arc<dyn FileFormatFactory>,
    ) -> Result<()> {
        self.0.try_encode_file_format(buffer, format)
    }
}

/// Ballista's codec for physical plans, with our operators.
#[derive(Debug, Default)]
pub(super) struct PhysicalCodec(BallistaPhysicalExtensionCodec);

impl PhysicalExtensionCodec for PhysicalCodec {
    fn try_decode(
        &self,
        buffer: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match open(buffer)? {
            Some(Node::Index(options)) => match inputs {
                [input] => Ok(Arc::new(IndexExec::new(Arc::clone(input), Arc::new(options)))),
                _ => Err(exec_datafusion_err!("`IndexExec` has one input, not {}", inputs.len())),
            },
            Some(Node::Run(_)) => {
                Err(plan_datafusion_err!("a table stands where an operator should"))
            }
            None => self.0.try_decode(buffer, inputs, context, converter),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buffer: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        match node.downcast_ref::<IndexExec>() {
            Some(index) => seal(Node::Index(index.options().clone()), buffer),
            None => self.0.try_encode(node, buffer, converter),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::physical_plan::{ExecutionPlanProperties, displayable};
    use datafusion_proto::{physical_plan::AsExecutionPlan, protobuf::PhysicalPlanNode};
    use eventide_catalog::{PlanFile, ShardPlace};

    use super::*;
    use crate::{index_plan, testing::index_options};

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
    fn a_plan_of_another_build_is_refused_by_name() {
        let mut buffer = MAGIC.to_vec();
        buffer
            .extend_from_slice(br#"{"build": "eventide-9 (plans 7, rows 1)", "node": {"New": 1}}"#);
        let error = open(&buffer).unwrap_err().to_string();
        assert!(error.contains("eventide-9 (plans 7, rows 1)"), "{error}");
        assert!(error.contains(&build()) && error.contains("same build"), "{error}");
    }

    #[test]
    fn bytes_that_are_not_ours_are_left_to_others() {
        assert!(open(b"something else").unwrap().is_none());
        assert!(open(b"eventide\0{").is_err());
    }
}
