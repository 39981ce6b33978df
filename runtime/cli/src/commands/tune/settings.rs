//! `--set NAME=VALUE`: the autoscaler's settings by Knative's names.

use corymb_loadtest::simulate::{Aggregation, Autoscaling, Metric};
use corymb_repository::nearest;

/// A setting as it was typed, checked.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    name: String,
    value: String,
}

const NAMES: [&str; 19] = [
    "activation-scale",
    "container-concurrency",
    "enable-scale-to-zero",
    "initial-scale",
    "max-scale",
    "max-scale-down-rate",
    "max-scale-up-rate",
    "metric",
    "metric-aggregation-algorithm",
    "min-scale",
    "panic-threshold-percentage",
    "panic-window-percentage",
    "scale-down-delay",
    "scale-to-zero-grace-period",
    "scale-to-zero-pod-retention-period",
    "target",
    "target-burst-capacity",
    "target-utilization-percentage",
    "window",
];

pub(super) fn parse(text: &str) -> Result<Setting, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, e.g. window=30s")?;
    let setting = Setting { name: name.to_owned(), value: value.to_owned() };
    setting.apply(&mut Autoscaling::default())?;
    Ok(setting)
}

impl Setting {
    pub(super) fn apply(&self, settings: &mut Autoscaling) -> Result<(), String> {
        let value = self.value.as_str();
        let number = || value.parse::<f64>().map_err(|_| format!("{} is '{value}'; expected a number", self.name));
        let whole = || value.parse::<u32>().map_err(|_| format!("{} is '{value}'; expected a whole number", self.name));
        let seconds = || {
            // Knative writes 30s, 1m; a bare number is seconds here.
            let time = value.parse().map(std::time::Duration::from_secs).or_else(|_| humantime::parse_duration(value));
            let time = time.map_err(|_| format!("{} is '{value}'; expected a time, e.g. 30s", self.name))?;
            u32::try_from(time.as_secs()).map_err(|_| format!("{} is too long", self.name))
        };
        match self.name.as_str() {
            "activation-scale" => settings.activation_scale = whole()?,
            "container-concurrency" => settings.container_concurrency = whole()?,
            "enable-scale-to-zero" => {
                settings.enable_scale_to_zero =
                    value.parse().map_err(|_| format!("{} is '{value}'; expected true or false", self.name))?;
            }
            "initial-scale" => settings.initial_scale = whole()?,
            "max-scale" => settings.max_scale = whole()?,
            "max-scale-down-rate" => settings.max_scale_down_rate = number()?,
            "max-scale-up-rate" => settings.max_scale_up_rate = number()?,
            "metric" => {
                settings.metric = match value {
                    "concurrency" => Metric::Concurrency,
                    "rps" => Metric::Rps,
                    other => return Err(format!("metric is '{other}'; expected concurrency or rps")),
                };
            }
            "metric-aggregation-algorithm" => {
                settings.metric_aggregation_algorithm = match value {
                    "linear" => Aggregation::Linear,
                    "weighted-exponential" => Aggregation::WeightedExponential,
                    other => {
                        return Err(format!("{} is '{other}'; expected linear or weighted-exponential", self.name));
                    }
                };
            }
            "min-scale" => settings.min_scale = whole()?,
            "panic-threshold-percentage" => settings.panic_threshold_percentage = number()?,
            "panic-window-percentage" => settings.panic_window_percentage = number()?,
            "scale-down-delay" => settings.scale_down_delay = seconds()?,
            "scale-to-zero-grace-period" => settings.scale_to_zero_grace_period = seconds()?,
            "scale-to-zero-pod-retention-period" => settings.scale_to_zero_pod_retention_period = seconds()?,
            "target" => settings.target = Some(number()?),
            "target-burst-capacity" => settings.target_burst_capacity = number()?,
            "target-utilization-percentage" => settings.target_utilization_percentage = number()?,
            "window" => settings.window = seconds()?,
            unknown => {
                let hint = nearest(unknown, &NAMES).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                return Err(format!("the autoscaler has no setting '{unknown}'{hint}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_understood_and_no_other() {
        for name in NAMES {
            let value = match name {
                "metric" => "rps",
                "metric-aggregation-algorithm" => "linear",
                "enable-scale-to-zero" => "false",
                _ => "30",
            };
            parse(&format!("{name}={value}")).expect(name);
        }
        let mut settings = Autoscaling::default();
        for text in ["window=1m", "target=0.5", "scale-down-delay=90"] {
            parse(text).expect(text).apply(&mut settings).expect(text);
        }
        assert_eq!((settings.window, settings.target, settings.scale_down_delay), (60, Some(0.5), 90));
        let error = parse("windw=1s").expect_err("unknown");
        assert_eq!(error, "the autoscaler has no setting 'windw'; did you mean window?");
        assert_eq!(parse("metric=cpu").expect_err("unknown"), "metric is 'cpu'; expected concurrency or rps");
    }
}
