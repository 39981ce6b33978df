//! `--set NAME=VALUE`: the autoscalers' settings, by the names that Knative, Kubernetes and KEDA give them.

use corymb_loadtest::simulate::{Aggregation, Autoscaling, Hpa, Keda, Metric, Rules, SelectPolicy};
use corymb_repository::nearest;

use super::ScalerFlag;

/// A setting as it was typed, checked.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    name: String,
    value: String,
}

/// All settings, as they were given and by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) autoscaling: Autoscaling,
    pub(super) hpa: Hpa,
    pub(super) keda: Keda,
}

/// Whose a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    All,
    Knative,
    Kubernetes,
    Keda,
}

const SETTINGS: [(&str, Owner); 37] = [
    ("activation-scale", Owner::Knative),
    ("container-concurrency", Owner::All),
    ("enable-scale-to-zero", Owner::Knative),
    ("hpa-downscale-stabilization", Owner::Kubernetes),
    ("hpa-scale-down-percent", Owner::Kubernetes),
    ("hpa-scale-down-period", Owner::Kubernetes),
    ("hpa-scale-down-pods", Owner::Kubernetes),
    ("hpa-scale-down-select-policy", Owner::Kubernetes),
    ("hpa-scale-down-stabilization-window", Owner::Kubernetes),
    ("hpa-scale-up-percent", Owner::Kubernetes),
    ("hpa-scale-up-period", Owner::Kubernetes),
    ("hpa-scale-up-pods", Owner::Kubernetes),
    ("hpa-scale-up-select-policy", Owner::Kubernetes),
    ("hpa-scale-up-stabilization-window", Owner::Kubernetes),
    ("hpa-sync-period", Owner::Kubernetes),
    ("hpa-tolerance", Owner::Kubernetes),
    ("initial-scale", Owner::Knative),
    ("keda-activation-threshold", Owner::Keda),
    ("keda-cooldown-period", Owner::Keda),
    ("keda-polling-interval", Owner::Keda),
    ("max-scale", Owner::All),
    ("max-scale-down-rate", Owner::Knative),
    ("max-scale-up-rate", Owner::Knative),
    ("metric", Owner::Knative),
    ("metric-aggregation-algorithm", Owner::Knative),
    ("min-scale", Owner::All),
    ("panic-threshold-percentage", Owner::Knative),
    ("panic-window-percentage", Owner::Knative),
    ("prometheus-rate-window", Owner::Kubernetes),
    ("prometheus-scrape-interval", Owner::Kubernetes),
    ("scale-down-delay", Owner::Knative),
    ("scale-to-zero-grace-period", Owner::Knative),
    ("scale-to-zero-pod-retention-period", Owner::Knative),
    ("target", Owner::All),
    ("target-burst-capacity", Owner::Knative),
    ("target-utilization-percentage", Owner::Knative),
    ("window", Owner::All),
];

impl Owner {
    fn is_heard_by(self, scaler: ScalerFlag) -> bool {
        match self {
            Self::All => true,
            Self::Knative => scaler == ScalerFlag::Kpa,
            Self::Kubernetes => scaler != ScalerFlag::Kpa,
            Self::Keda => scaler == ScalerFlag::Keda,
        }
    }

    /// Who hears it, as one would ask for it.
    fn flag(self) -> &'static str {
        match self {
            Self::All | Self::Knative => "--scaler kpa",
            Self::Kubernetes => "--scaler hpa",
            Self::Keda => "--scaler keda",
        }
    }
}

pub(crate) fn parse(text: &str) -> Result<Setting, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, e.g. window=30s")?;
    let setting = Setting { name: name.to_owned(), value: value.to_owned() };
    setting.apply(&mut Settings::default())?;
    Ok(setting)
}

impl Settings {
    /// Applies what was typed. What none of the scalers hears is refused.
    pub(super) fn apply(&mut self, typed: &[Setting], scalers: &[ScalerFlag]) -> Result<(), String> {
        // The HPA's flag is the default of the window in its rules.
        let (flags, others): (Vec<_>, Vec<_>) =
            typed.iter().partition(|setting| setting.name == "hpa-downscale-stabilization");
        for setting in flags.into_iter().chain(others) {
            let owner = setting.owner()?;
            if !scalers.iter().any(|scaler| owner.is_heard_by(*scaler)) {
                return Err(format!("{} is not heard: it is of {}", setting.name, owner.flag()));
            }
            setting.apply(self)?;
        }
        Ok(())
    }
}

impl Setting {
    fn owner(&self) -> Result<Owner, String> {
        let known = SETTINGS.iter().find(|(name, _)| *name == self.name);
        known.map(|(_, owner)| *owner).ok_or_else(|| {
            let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
            let hint = nearest(&self.name, &names).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            format!("the autoscaler has no setting '{}'{hint}", self.name)
        })
    }

    fn number(&self) -> Result<f64, String> {
        self.value.parse().map_err(|_| self.wrong("a number"))
    }

    fn whole(&self) -> Result<u32, String> {
        self.value.parse().map_err(|_| self.wrong("a whole number"))
    }

    fn seconds(&self) -> Result<u32, String> {
        // Knative writes 30s, 1m; a bare number is seconds here.
        let value = self.value.as_str();
        let time = value.parse().map(std::time::Duration::from_secs).or_else(|_| humantime::parse_duration(value));
        let time = time.map_err(|_| self.wrong("a time, e.g. 30s"))?;
        u32::try_from(time.as_secs()).map_err(|_| format!("{} is too long", self.name))
    }

    /// One of a few words.
    fn word<T: Copy>(&self, words: &[(&str, T)], expected: &str) -> Result<T, String> {
        words.iter().find(|(word, _)| *word == self.value).map(|(_, value)| *value).ok_or_else(|| self.wrong(expected))
    }

    fn wrong(&self, expected: &str) -> String {
        format!("{} is '{}'; expected {expected}", self.name, self.value)
    }

    fn apply(&self, settings: &mut Settings) -> Result<(), String> {
        self.owner()?;
        let Settings { autoscaling, hpa, keda } = settings;
        match self.name.as_str() {
            "container-concurrency" => autoscaling.container_concurrency = self.whole()?,
            "max-scale" => autoscaling.max_scale = self.whole()?,
            "min-scale" => {
                autoscaling.min_scale = self.whole()?;
                keda.scale_to_zero = autoscaling.min_scale == 0;
            }
            "target" => autoscaling.target = Some(self.number()?),
            "window" => {
                autoscaling.window = self.seconds()?;
                // Knative makes it the HPA's windows of both directions.
                hpa.up().stabilization_window = autoscaling.window;
                hpa.down().stabilization_window = autoscaling.window;
            }
            "keda-activation-threshold" => keda.activation_threshold = self.number()?,
            "keda-cooldown-period" => keda.cooldown_period = self.seconds()?,
            "keda-polling-interval" => keda.polling_interval = self.seconds()?,
            "prometheus-rate-window" => hpa.rate_window = self.seconds()?,
            "prometheus-scrape-interval" => hpa.scrape_interval = self.seconds()?,
            name => match name.strip_prefix("hpa-") {
                Some(name) => self.kubernetes(name, hpa)?,
                None => self.knative(autoscaling)?,
            },
        }
        Ok(())
    }

    fn kubernetes(&self, name: &str, hpa: &mut Hpa) -> Result<(), String> {
        match name {
            "downscale-stabilization" => hpa.downscale_stabilization = self.seconds()?,
            "sync-period" => hpa.sync_period = self.seconds()?,
            "tolerance" => hpa.tolerance = self.number()?,
            _ => {
                let (rules, rule) = match (name.strip_prefix("scale-up-"), name.strip_prefix("scale-down-")) {
                    (Some(rule), _) => (hpa.up(), rule),
                    (None, rule) => (hpa.down(), rule.unwrap_or_default()),
                };
                self.rule(rule, rules)?;
            }
        }
        Ok(())
    }

    fn rule(&self, rule: &str, rules: &mut Rules) -> Result<(), String> {
        match rule {
            "percent" => rules.percent = self.whole()?,
            "period" => rules.period = self.seconds()?,
            "pods" => rules.pods = self.whole()?,
            "stabilization-window" => rules.stabilization_window = self.seconds()?,
            _ => {
                let words =
                    [("max", SelectPolicy::Max), ("min", SelectPolicy::Min), ("disabled", SelectPolicy::Disabled)];
                rules.select_policy = self.word(&words, "max, min or disabled")?;
            }
        }
        Ok(())
    }

    fn knative(&self, settings: &mut Autoscaling) -> Result<(), String> {
        match self.name.as_str() {
            "activation-scale" => settings.activation_scale = self.whole()?,
            "enable-scale-to-zero" => {
                settings.enable_scale_to_zero = self.word(&[("true", true), ("false", false)], "true or false")?;
            }
            "initial-scale" => settings.initial_scale = self.whole()?,
            "max-scale-down-rate" => settings.max_scale_down_rate = self.number()?,
            "max-scale-up-rate" => settings.max_scale_up_rate = self.number()?,
            "metric" => {
                let words = [("concurrency", Metric::Concurrency), ("rps", Metric::Rps)];
                settings.metric = self.word(&words, "concurrency or rps")?;
            }
            "metric-aggregation-algorithm" => {
                let words =
                    [("linear", Aggregation::Linear), ("weighted-exponential", Aggregation::WeightedExponential)];
                settings.metric_aggregation_algorithm = self.word(&words, "linear or weighted-exponential")?;
            }
            "panic-threshold-percentage" => settings.panic_threshold_percentage = self.number()?,
            "panic-window-percentage" => settings.panic_window_percentage = self.number()?,
            "scale-down-delay" => settings.scale_down_delay = self.seconds()?,
            "scale-to-zero-grace-period" => settings.scale_to_zero_grace_period = self.seconds()?,
            "scale-to-zero-pod-retention-period" => settings.scale_to_zero_pod_retention_period = self.seconds()?,
            "target-burst-capacity" => settings.target_burst_capacity = self.number()?,
            _ => settings.target_utilization_percentage = self.number()?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(typed: &[&str], scalers: &[ScalerFlag]) -> Result<Settings, String> {
        let typed = typed.iter().map(|text| parse(text)).collect::<Result<Vec<Setting>, String>>()?;
        let mut settings = Settings::default();
        settings.apply(&typed, scalers).map(|()| settings)
    }

    #[test]
    fn every_name_is_understood_and_changes_something() {
        for (name, owner) in SETTINGS {
            let value = match name {
                "metric" => "rps",
                "metric-aggregation-algorithm" => "weighted-exponential",
                "enable-scale-to-zero" => "false",
                name if name.ends_with("select-policy") => "min",
                _ => "37",
            };
            let scaler = match owner {
                Owner::Keda => ScalerFlag::Keda,
                Owner::Kubernetes => ScalerFlag::Hpa,
                Owner::All | Owner::Knative => ScalerFlag::Kpa,
            };
            let settings = applied(&[&format!("{name}={value}")], &[scaler]).expect(name);
            assert_ne!(format!("{settings:?}"), format!("{:?}", Settings::default()), "{name}");
        }
    }

    #[test]
    fn a_window_is_the_hpa_s_too_and_zero_replicas_are_keda_s() {
        let every = [ScalerFlag::Kpa, ScalerFlag::Hpa, ScalerFlag::Keda];
        let Settings { autoscaling, hpa, keda } =
            applied(&["window=1m", "target=0.5", "scale-down-delay=90", "min-scale=0"], &every).expect("valid");
        assert_eq!((autoscaling.window, autoscaling.target, autoscaling.scale_down_delay), (60, Some(0.5), 90));
        let (up, down) = (hpa.scale_up.expect("rules"), hpa.scale_down.expect("rules"));
        assert_eq!((up.stabilization_window, down.stabilization_window, up.pods), (60, 60, 4));
        assert!(keda.scale_to_zero && !Keda::default().scale_to_zero);
        let Settings { hpa, .. } =
            applied(&["hpa-scale-up-pods=9", "hpa-downscale-stabilization=60"], &every).expect("valid");
        assert_eq!(hpa.scale_down.expect("rules").stabilization_window, 60);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("windw=1s", "the autoscaler has no setting 'windw'; did you mean window?"),
            ("metric=cpu", "metric is 'cpu'; expected concurrency or rps"),
            ("hpa-tolerence=1", "did you mean hpa-tolerance?"),
            ("hpa-scale-up-select-policy=most", "expected max, min or disabled"),
            ("keda-polling-interval=often", "expected a time, e.g. 30s"),
            ("window", "expected NAME=VALUE"),
        ] {
            assert!(parse(text).expect_err(text).contains(words), "{text}");
        }
        let unheard = applied(&["hpa-tolerance=0.2"], &[ScalerFlag::Kpa]).expect_err("unheard");
        assert_eq!(unheard, "hpa-tolerance is not heard: it is of --scaler hpa");
        assert!(applied(&["panic-window-percentage=20"], &[ScalerFlag::Hpa, ScalerFlag::Keda]).is_err());
        assert!(applied(&["keda-cooldown-period=1m"], &[ScalerFlag::Hpa]).is_err());
    }
}
