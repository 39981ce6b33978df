//! What a Corymb plugin in Rust is written with: one trait, one macro, and comfort around the contract's types.
//!
//! A plugin wraps a model's signature. The server decodes every protocol into named tensors before
//! [`preprocess`](Transformer::preprocess) and encodes named tensors after [`postprocess`](Transformer::postprocess), so
//! a plugin knows nothing of HTTP, gRPC or JSON.
//!
//! ```
//! use corymb_plugin::{Carry, DType, Description, Error, Model, NoConfig, Request, Response, Result, Step, Tensor};
//! use corymb_plugin::{TensorSpec, Tensors, Transformer, info};
//!
//! /// Serves a model that wants numbers between 0 and 1 to clients that have percentages.
//! struct Percent;
//!
//! impl Transformer for Percent {
//!     type Config = NoConfig;
//!
//!     fn configure(_: NoConfig, model: Option<&Model>) -> Result<(Self, Description)> {
//!         let model = model.ok_or_else(|| Error::invalid_argument("this plugin needs a model to wrap"))?;
//!         let description = Description {
//!             inputs: vec![TensorSpec::new("percent", DType::Fp32, [None])],
//!             outputs: model.outputs.clone(),
//!             model_inputs: vec![TensorSpec::new("x", DType::Fp32, [None])],
//!             model_outputs: model.outputs.clone(),
//!             reusable: true,
//!         };
//!         Ok((Self, description))
//!     }
//!
//!     fn preprocess(&self, mut request: Request) -> Result<Step> {
//!         let percent = request.inputs.take("percent")?;
//!         let fractions: Vec<f32> = percent.to_vec::<f32>()?.iter().map(|value| value / 100.0).collect();
//!         info!("{} values", fractions.len());
//!         let x = Tensor::from_slice(percent.shape(), &fractions)?;
//!         Ok(Step::run(Tensors::from_iter([("x", x)]), Carry::default()))
//!     }
//!
//!     // Without a `postprocess` of its own, a plugin serves the model's outputs as they are.
//! }
//!
//! corymb_plugin::export!(Percent);
//!
//! # fn main() -> Result<()> {
//! // Tensors live in memory in a native build, so a plugin's tests need no server and no WebAssembly.
//! let request = Request::new(Tensors::from_iter([("percent", Tensor::from_slice([2], &[50.0_f32, 100.0])?)]));
//! let Step::Run(prepared) = Percent.preprocess(request)? else { panic!("runs the model") };
//! assert_eq!(prepared.inputs.get("x")?.to_vec::<f32>()?, [0.5, 1.0]);
//! # Ok(())
//! # }
//! ```
//!
//! The crate is built as a `cdylib` for `wasm32-unknown-unknown`; `plugins/build.sh` makes the component. Features:
//! `images` for the host's picture codec, `inference` for other models of the same server.

#[doc(hidden)]
#[allow(missing_docs, missing_debug_implementations, clippy::all, reason = "generated from the contract")]
pub mod bindings {
    macro_rules! world {
        ($name:literal) => {
            wit_bindgen::generate!({
                world: $name,
                path: "../wit",
                pub_export_macro: true,
                additional_derives: [PartialEq],
                // They hold handles, which have no equality.
                additional_derives_ignore: ["named-tensor", "request", "carry", "prepared", "response", "step", "call"],
            });
        };
    }

    // The narrowest world that has what is used, so that a component names no import without need.
    #[cfg(feature = "inference")]
    world!("orchestrator");
    #[cfg(all(feature = "images", not(feature = "inference")))]
    world!("image-transformer");
    #[cfg(not(feature = "images"))]
    world!("transformer");
}

mod error;
#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub mod guest;
#[cfg(feature = "images")]
pub mod images;
#[cfg(feature = "inference")]
pub mod inference;
pub mod logging;
pub mod metrics;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod spec;
mod tensor;
mod transformer;

pub use bindings::corymb::plugin::types::{Description, Dtype as DType, ErrorCode, Model, TensorSpec};
pub use bindings::exports::corymb::plugin::transform::Value;
pub use error::{Error, Result};
pub use tensor::{Element, Tensor, Tensors};
pub use transformer::{Carry, NoConfig, Parameters, Prepared, Request, Response, Step, Transformer};

/// Makes a [`Transformer`] the plugin of this crate. Once per crate; does nothing in a native build.
///
/// The crate's name and version, and the JSON Schema of its configuration where one is given, are left in the component,
/// where they can be read without running it (custom sections `corymb:name`, `corymb:version`, `corymb:config-schema`):
///
/// ```text
/// corymb_plugin::export!(Percent, config_schema = include_str!("config.schema.json"));
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ty $(, config_schema = $schema:expr)? $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::exports::corymb::plugin::transform as contract;

            $crate::section!("corymb:name", env!("CARGO_PKG_NAME"));
            $crate::section!("corymb:version", env!("CARGO_PKG_VERSION"));
            $($crate::section!("corymb:config-schema", $schema);)?

            ::std::thread_local! {
                static PLUGIN: $crate::guest::Slot<$plugin> = const { $crate::guest::Slot::new() };
            }

            struct Component;

            impl contract::Guest for Component {
                fn configure(
                    config: ::std::string::String,
                    model: ::std::option::Option<contract::Model>,
                ) -> ::std::result::Result<contract::Description, contract::Error> {
                    PLUGIN.with(|plugin| plugin.configure(&config, model.as_ref()))
                }

                fn preprocess(
                    request: contract::Request,
                ) -> ::std::result::Result<contract::Step, contract::Error> {
                    PLUGIN.with(|plugin| plugin.preprocess(request))
                }

                fn postprocess(
                    outputs: ::std::vec::Vec<contract::NamedTensor>,
                    carry: contract::Carry,
                ) -> ::std::result::Result<contract::Response, contract::Error> {
                    PLUGIN.with(|plugin| plugin.postprocess(outputs, carry))
                }
            }

            $crate::bindings::export!(Component with_types_in $crate::bindings);
        };
    };
}

/// A text in a custom section of the module.
#[doc(hidden)]
#[macro_export]
macro_rules! section {
    ($name:literal, $text:expr) => {
        const _: () = {
            const TEXT: &str = $text;

            #[used]
            #[unsafe(link_section = $name)]
            static SECTION: [u8; TEXT.len()] = $crate::guest::bytes_of(TEXT);
        };
    };
}
