//! ONNX Runtime's options by name: those that a model may set, and those that it may not, with the reason.
//!
//! Of sessions: `onnxruntime_session_options_config_keys.h`. Of execution providers: the pages of each at
//! <https://onnxruntime.ai/docs/execution-providers/>. A folder may come from anywhere, so no option is taken that reads
//! or writes files, loads code, holds an address, or changes what other models answer.

use super::kind::Kind::{self, Flag, Number, Refused, Text, Truth, Word};

/// A table of keys.
pub(super) type Keys = &'static [(&'static str, Kind)];

const FILES: &str = "nothing: it reads or writes files, and a model uses those of its own folder only";
const CODE: &str = "nothing: it loads code, which --custom-operators alone allows";
const ADDRESS: &str = "nothing: it is an address in a process";
const DEVICE: &str = "nothing: `device` says where a model runs";
const THREADS: &str = "nothing: `instances.threads` says how many threads a run has";
const LEVEL: &str = "nothing: `onnxruntime.optimization` says how far a graph is optimised";
const MEMORY: &str = "nothing: the server bounds what a run takes, by an allocator of its own";
const SEQUENTIAL: &str = "nothing: the nodes of a run follow each other";
const FORMAT: &str = "nothing: it is about files of ONNX Runtime's own format, which are not served";
const REPLAY: &str = "nothing: a CUDA graph is replayed on the addresses of the first request";
const ENGINES: &str = "nothing: a kept engine is found by the names in a graph, and may hold another model's weights";

/// Of a session.
#[rustfmt::skip]
pub(super) const SESSION: Keys = &[
    ("session.disable_prepacking", Flag),
    ("session.disable_quant_qdq", Flag),
    ("session.disable_double_qdq_remover", Flag),
    ("session.disable_qdq_constant_folding", Flag),
    ("session.enable_quant_qdq_cleanup", Flag),
    ("session.enable_dq_matmulnbits_fusion", Flag),
    ("session.qdq_matmulnbits_accuracy_level", Number(0, 4)),
    ("session.qdq_matmulnbits_block_size", Number(-1, 256)),
    ("session.qdqisint8allowed", Flag),
    ("session.x64quantprecision", Flag),
    ("session.disable_aot_function_inlining", Flag),
    ("session.graph_optimizations_loop_level", Number(0, 2)),
    ("session.use_device_allocator_for_initializers", Flag),
    ("session.intra_op.allow_spinning", Flag),
    ("session.intra_op.spin_duration_us", Number(0, 1_000_000)),
    ("session.force_spinning_stop", Flag),
    ("session.dynamic_block_base", Number(0, 1024)),
    ("session.strict_shape_type_inference", Flag),
    ("session.allow_released_opsets_only", Flag),
    ("session.max_shape_override", Text),
    ("session.gqa_value_layout", Word(&["BNSH", "BNHS"])),
    ("optimization.enable_gelu_approximation", Flag),
    ("optimization.enable_cast_chain_elimination", Flag),
    ("optimization.disable_specified_optimizers", Text),
    ("optimization.constant_folding_max_output_size_in_bytes", Kind::SIZE),
    ("mlas.enable_gemm_fastmath_arm64_bfloat16", Flag),
    ("mlas.disable_kleidiai", Flag),
    ("mlas.use_lut_gemm", Flag),
    ("mlas.nchwc_pointwise_conv_max_input_channel_batch", Number(0, 1 << 20)),

    ("session.set_denormal_as_zero", Refused(
        "nothing: it reaches threads of ONNX Runtime's own only, so that answers would depend on the thread")),
    ("session.disable_cpu_ep_fallback", Refused(
        "nothing: the processor is always there for what a device does not run")),
    ("session.use_env_allocators", Refused(MEMORY)),
    ("session.enable_cpu_mem_arena", Refused(MEMORY)),
    ("session.enable_mem_pattern", Refused("nothing: the server plans memory where all shapes follow from the rows")),
    ("session.graph_optimization_level", Refused(LEVEL)),
    ("session.intra_op_num_threads", Refused(THREADS)),
    ("session.intra_op_thread_affinities", Refused(THREADS)),
    ("session.use_per_session_threads", Refused(THREADS)),
    ("session.execution_mode", Refused(SEQUENTIAL)),
    ("session.inter_op_num_threads", Refused(SEQUENTIAL)),
    ("session.inter_op.allow_spinning", Refused(SEQUENTIAL)),
    ("session.inter_op.spin_duration_us", Refused(SEQUENTIAL)),
    ("session.load_model_format", Refused(FORMAT)),
    ("session.save_model_format", Refused(FORMAT)),
    ("session.use_ort_model_bytes_directly", Refused(FORMAT)),
    ("session.use_ort_model_bytes_for_initializers", Refused(FORMAT)),
    ("session.enable_saved_runtime_optimizations", Refused(FORMAT)),
    ("optimization.minimal_build_optimizations", Refused(FORMAT)),
    ("session.node_partition_config_file", Refused(FILES)),
    ("session.collect_node_memory_stats_to_file", Refused(FILES)),
    ("session.resource_cuda_partitioning_settings", Refused(FILES)),
    ("session.model_external_initializers_file_folder_path", Refused(FILES)),
    ("session.optimized_model_filepath", Refused(FILES)),
    ("session.optimized_model_external_initializers_file_name", Refused(FILES)),
    ("session.optimized_model_external_initializers_min_size_in_bytes", Refused(FILES)),
    ("session.save_external_prepacked_constant_initializers", Refused(FILES)),
    ("session.debug_layout_transformation", Refused(FILES)),
    ("session.enable_profiling", Refused(FILES)),
    ("ep.context_enable", Refused(FILES)),
    ("ep.context_file_path", Refused(FILES)),
    ("ep.context_embed_mode", Refused(FILES)),
    ("ep.context_node_name_prefix", Refused(FILES)),
    ("ep.context_model_external_initializers_file_name", Refused(FILES)),
    ("ep.context_source_model_path", Refused(FILES)),
    ("ep.share_ep_contexts", Refused(FILES)),
];

const ARENA: Kind = Word(&["kNextPowerOfTwo", "kSameAsRequested"]);

#[rustfmt::skip]
const CUDA: Keys = &[
    ("gpu_mem_limit", Kind::SIZE),
    ("arena_extend_strategy", ARENA),
    ("cudnn_conv_algo_search", Word(&["EXHAUSTIVE", "HEURISTIC", "DEFAULT"])),
    ("cudnn_conv_use_max_workspace", Flag),
    ("cudnn_conv1d_pad_to_nc1d", Flag),
    ("do_copy_in_default_stream", Flag),
    ("use_ep_level_unified_stream", Flag),
    ("enable_skip_layer_norm_strict_mode", Flag),
    ("prefer_nhwc", Flag),
    ("use_tf32", Flag),
    ("fuse_conv_bias", Flag),
    ("sdpa_kernel", Number(0, 0xFFFF)),
    ("tunable_op_enable", Flag),
    ("tunable_op_tuning_enable", Flag),
    ("tunable_op_max_tuning_duration_ms", Number(0, 3_600_000)),

    ("device_id", Refused(DEVICE)),
    ("enable_cuda_graph", Refused(REPLAY)),
    ("has_user_compute_stream", Refused(ADDRESS)),
    ("user_compute_stream", Refused(ADDRESS)),
    ("gpu_external_alloc", Refused(ADDRESS)),
    ("gpu_external_free", Refused(ADDRESS)),
    ("gpu_external_empty_cache", Refused(ADDRESS)),
];

#[rustfmt::skip]
const TENSORRT: Keys = &[
    ("trt_max_workspace_size", Kind::SIZE),
    ("trt_max_partition_iterations", Number(1, i32::MAX as i128)),
    ("trt_min_subgraph_size", Number(1, i32::MAX as i128)),
    ("trt_fp16_enable", Flag),
    ("trt_bf16_enable", Flag),
    ("trt_int8_enable", Flag),
    ("trt_dla_enable", Flag),
    ("trt_dla_core", Number(0, 255)),
    ("trt_force_sequential_engine_build", Flag),
    ("trt_context_memory_sharing_enable", Flag),
    ("trt_layer_norm_fp32_fallback", Flag),
    ("trt_detailed_build_log", Flag),
    ("trt_build_heuristics_enable", Flag),
    ("trt_sparsity_enable", Flag),
    ("trt_builder_optimization_level", Number(0, 5)),
    ("trt_auxiliary_streams", Number(-1, 64)),
    ("trt_tactic_sources", Text),
    ("trt_profile_min_shapes", Text),
    ("trt_profile_max_shapes", Text),
    ("trt_profile_opt_shapes", Text),
    ("trt_op_types_to_exclude", Text),

    ("device_id", Refused(DEVICE)),
    ("trt_cuda_graph_enable", Refused(REPLAY)),
    ("has_user_compute_stream", Refused(ADDRESS)),
    ("user_compute_stream", Refused(ADDRESS)),
    ("trt_extra_plugin_lib_paths", Refused(CODE)),
    ("trt_engine_decryption_enable", Refused(CODE)),
    ("trt_engine_decryption_lib_path", Refused(CODE)),
    ("trt_engine_cache_enable", Refused(ENGINES)),
    ("trt_engine_cache_path", Refused(ENGINES)),
    ("trt_engine_cache_prefix", Refused(ENGINES)),
    ("trt_engine_hw_compatible", Refused(ENGINES)),
    ("trt_weight_stripped_engine_enable", Refused(ENGINES)),
    ("trt_timing_cache_enable", Refused(FILES)),
    ("trt_timing_cache_path", Refused(FILES)),
    ("trt_force_timing_cache", Refused(FILES)),
    ("trt_int8_calibration_table_name", Refused(FILES)),
    ("trt_int8_use_native_calibration_table", Refused(FILES)),
    ("trt_onnx_model_folder_path", Refused(FILES)),
    ("trt_dump_subgraphs", Refused(FILES)),
    ("trt_dump_ep_context_model", Refused(FILES)),
    ("trt_ep_context_file_path", Refused(FILES)),
    ("trt_ep_context_embed_mode", Refused(FILES)),
];

#[rustfmt::skip]
const MIGRAPHX: Keys = &[
    ("migraphx_fp16_enable", Flag),
    ("migraphx_fp8_enable", Flag),
    ("migraphx_exhaustive_tune", Flag),
    ("migraphx_mem_limit", Kind::SIZE),
    ("migraphx_arena_extend_strategy", ARENA),

    ("device_id", Refused(DEVICE)),
    ("migraphx_int8_enable", Refused(FILES)),
    ("migraphx_int8_calibration_table_name", Refused(FILES)),
    ("migraphx_use_native_calibration_table", Refused(FILES)),
    ("migraphx_model_cache_dir", Refused(FILES)),
    ("migraphx_save_model_path", Refused(FILES)),
    ("migraphx_load_model_path", Refused(FILES)),
];

#[rustfmt::skip]
const OPENVINO: Keys = &[
    ("device_type", Text),
    ("precision", Word(&["FP32", "FP16", "ACCURACY"])),
    ("num_of_threads", Number(1, 1024)),
    ("num_streams", Number(1, 255)),
    ("model_priority", Word(&["LOW", "MEDIUM", "HIGH", "DEFAULT"])),
    ("enable_opencl_throttling", Truth),
    ("enable_qdq_optimizer", Truth),
    ("disable_dynamic_shapes", Truth),

    ("device_id", Refused("nothing: `device_type` names a device of OpenVINO, e.g. GPU.1")),
    ("cache_dir", Refused(FILES)),
    ("load_config", Refused(FILES)),
    ("context", Refused(ADDRESS)),
];

#[rustfmt::skip]
const COREML: Keys = &[
    ("EnableOnSubgraphs", Flag),
    ("RequireStaticInputShapes", Flag),
    ("ModelFormat", Word(&["MLProgram", "NeuralNetwork"])),
    ("SpecializationStrategy", Word(&["Default", "FastPrediction"])),
    ("MLComputeUnits", Word(&["ALL", "CPUAndNeuralEngine", "CPUAndGPU", "CPUOnly"])),
    ("ProfileComputePlan", Flag),
    ("AllowLowPrecisionAccumulationOnGPU", Flag),

    ("ModelCacheDirectory", Refused(FILES)),
];

/// Of what drives a device, by the device's kind.
pub(super) const DEVICES: [(&str, Keys); 5] =
    [("cuda", CUDA), ("tensorrt", TENSORRT), ("migraphx", MIGRAPHX), ("openvino", OPENVINO), ("coreml", COREML)];
