//! The plugin without a host: tensors in memory, and a codec that only checks what it is asked for.

use corymb_plugin::images::{Codec, Color, Fit, Kernel, Layout, Region, Size, set_codec};
use corymb_plugin::{DType, ErrorCode, TensorSpec};

use super::*;

/// Answers the shape that the plan asks for.
struct Shapes;

impl Codec for Shapes {
    fn probe(&self, _: &Tensor, _: u32) -> Result<Size> {
        Err(Error::unimplemented("not used"))
    }

    fn to_tensor(&self, encoded: &Tensor, regions: &[Region], plan: &Plan) -> Result<Tensor> {
        assert!(regions.is_empty());
        assert_eq!(plan.fit, Fit::Stretch(Size { width: 160, height: 160 }));
        assert_eq!((plan.resize.kernel, plan.resize.antialias, plan.orient), (Kernel::Bilinear, true, true));
        assert_eq!((plan.color, plan.layout, &plan.dtype), (Color::Rgb, Layout::Nchw, &DType::Fp32));
        assert_eq!((plan.scale, &plan.mean[..], &plan.std[..]), (1.0, &[127.0; 3][..], &[128.0; 3][..]));
        Tensor::zeroed(&DType::Fp32, [encoded.len(), 3, 160, 160])
    }
}

fn model(input: [Option<u32>; 4]) -> Model {
    Model {
        name: "flowers".to_owned(),
        version: "1".to_owned(),
        inputs: vec![TensorSpec::new("pixels", DType::Fp32, input)],
        outputs: vec![TensorSpec::new("scores", DType::Fp32, [None, Some(6)])],
    }
}

fn flowers() -> Flowers {
    set_codec(Shapes);
    let model = model([None, Some(3), Some(160), Some(160)]);
    Flowers::configure(Config::default(), Some(&model)).expect("fits").0
}

fn prepared(inputs: Tensors) -> corymb_plugin::Prepared {
    match flowers().preprocess(Request::new(inputs)).expect("valid") {
        Step::Run(prepared) => prepared,
        Step::Answer(_) => panic!("the model is to run"),
    }
}

fn refusal(model: &Model, size: Option<u32>) -> String {
    Flowers::configure(Config { size }, Some(model)).expect_err("refused").message
}

#[test]
fn the_signature_follows_the_model() {
    let (_, description) =
        Flowers::configure(Config::default(), Some(&model([None, Some(3), Some(96), None]))).expect("fits");
    let texts = |specs: &[TensorSpec]| specs.iter().map(|spec| format!("{} {spec}", spec.name)).collect::<Vec<_>>();
    assert_eq!(texts(&description.inputs), ["image_bytes BYTES [?]", "key BYTES [?]"]);
    assert_eq!(description.inputs[0].media_type.as_deref(), Some("image/*"));
    assert_eq!([description.inputs[0].optional, description.inputs[1].optional], [false, true]);
    assert_eq!(texts(&description.outputs), ["scores FP32 [?,6]", "prediction INT64 [?]", "key BYTES [?]"]);
    assert_eq!(texts(&description.model_inputs), ["pixels FP32 [?,3,96,96]"]);
    assert_eq!(texts(&description.model_outputs), ["scores FP32 [?,6]"]);
}

#[test]
fn a_model_that_does_not_fit_is_told_so() {
    let error = Flowers::configure(Config::default(), None).expect_err("no model");
    assert_eq!(error.message, "the flowers plugin wraps a model; there is none");
    assert_eq!(
        refusal(&model([None, Some(3), Some(224), Some(224)]), Some(160)),
        "model 'flowers' has input 'pixels' FP32 [?,3,224,224]; with size = 160 the plugin makes FP32 [?,3,160,160]"
    );
    assert_eq!(
        refusal(&model([None, Some(224), Some(224), Some(3)]), None),
        "model 'flowers' has input 'pixels' FP32 [?,224,224,3]; expected one of FP32 [?,3,H,W]"
    );
    assert_eq!(refusal(&model([None; 4]), Some(0)), "size = 0; 1 to 4096 is possible");
    let mut silent = model([None; 4]);
    silent.outputs.clear();
    assert!(refusal(&silent, None).contains("expected FP32 [?,classes]"));
}

#[test]
fn keys_are_carried_to_the_answer() {
    let images = Tensor::from_elements([2], ["one", "two"]).expect("valid");
    let key = Tensor::from_elements([2], ["   1", "b"]).expect("valid");
    let prepared = prepared(Tensors::from_iter([("image_bytes", images), ("key", key)]));
    assert_eq!(prepared.inputs.get("pixels").expect("made").shape(), [2, 3, 160, 160]);

    let scores = [0.1_f32, 0.2, 0.3, 0.15, 0.15, 0.1, f32::NAN, 0.4, 0.4, 0.0, 0.0, 0.0];
    let outputs = Tensors::from_iter([("scores", Tensor::from_slice([2, 6], &scores).expect("valid"))]);
    let response = flowers().postprocess(outputs, prepared.carry).expect("valid");
    let names: Vec<&str> = response.outputs.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["scores", "prediction", "key"]);
    assert_eq!(response.outputs.get("prediction").expect("made").to_vec::<i64>().expect("int64"), [2, 1]);
    let keys = response.outputs.get("key").expect("carried");
    assert_eq!(keys.element(0).expect("there"), b"   1");
}

#[test]
fn without_keys_the_answer_has_empty_ones() {
    let images = Tensor::from_elements([1], ["one"]).expect("valid");
    let prepared = prepared(Tensors::from_iter([("image_bytes", images)]));
    assert_eq!(prepared.carry.tensors.get("key").expect("made").element(0).expect("there"), b"");
}

#[test]
fn each_picture_has_its_key() {
    let images = Tensor::from_elements([2], ["one", "two"]).expect("valid");
    let key = Tensor::from_elements([1], ["1"]).expect("valid");
    let inputs = Tensors::from_iter([("image_bytes", images), ("key", key)]);
    let error = flowers().preprocess(Request::new(inputs)).expect_err("one key is missing");
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert_eq!(error.message, "input 'key' has 1 elements; input 'image_bytes' has 2");
}

#[test]
fn no_pictures_make_an_empty_answer() {
    let prepared = prepared(Tensors::from_iter([("image_bytes", Tensor::from_elements([0], [""; 0]).expect("valid"))]));
    assert_eq!(prepared.inputs.get("pixels").expect("made").shape(), [0, 3, 160, 160]);
    let outputs = Tensors::from_iter([("scores", Tensor::from_slice::<f32>([0, 6], &[]).expect("valid"))]);
    let response = flowers().postprocess(outputs, prepared.carry).expect("valid");
    assert_eq!(response.outputs.get("prediction").expect("made").shape(), [0]);
}
