//! The container's first process: command, environment, directory, user and what it may do.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, User};

use super::{OciSpecError, SpecInputs, capabilities, empty, resources};

/// When neither image nor container says where programs are.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// With a terminal, when nobody says what kind.
pub(crate) const DEFAULT_TERM: &str = "TERM=xterm";

pub(super) fn process(inputs: &SpecInputs<'_>) -> Result<Process, OciSpecError> {
    let container = inputs.container;
    let mut user: User = empty(r#"{"uid":0,"gid":0}"#);
    user.set_uid(inputs.user.uid)
        .set_gid(inputs.user.gid)
        .set_additional_gids(Some(inputs.user.additional_gids.clone()));
    let mut process: Process = empty(r#"{"user":{"uid":0,"gid":0},"cwd":"/"}"#);
    process
        .set_terminal(Some(container.tty))
        .set_user(user)
        .set_args(Some(args(inputs)?))
        .set_env(Some(env(inputs)?))
        .set_cwd(cwd(inputs)?)
        .set_capabilities(Some(capabilities::sets(&container.security, &inputs.host.capabilities)?))
        .set_no_new_privileges(Some(container.security.no_new_privs))
        .set_oom_score_adj(Some(resources::oom_score_adj(inputs)?));
    Ok(process)
}

/// Kubernetes' rule: a command replaces the image's entrypoint and makes its cmd void; args replace the cmd.
fn args(inputs: &SpecInputs<'_>) -> Result<Vec<String>, OciSpecError> {
    let (container, image) = (inputs.container, &inputs.image.config);
    let (program, arguments) = match (container.command.is_empty(), container.args.is_empty()) {
        (false, _) => (&container.command, &container.args),
        (true, false) => (&image.entrypoint, &container.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    let args: Vec<String> = program.iter().chain(arguments).cloned().collect();
    if args.iter().all(String::is_empty) {
        return Err(OciSpecError::NoCommand { image: inputs.image.name.clone() });
    }
    args.iter().try_for_each(|arg| no_nul("argument", arg))?;
    Ok(args)
}

/// Later ones win: defaults, the image's, the container's. Each name comes once, at its first place.
fn env(inputs: &SpecInputs<'_>) -> Result<Vec<String>, OciSpecError> {
    let hostname = if inputs.pod.hostname.is_empty() { &inputs.host.hostname } else { &inputs.pod.hostname };
    let mut env = Environment::default();
    env.set(DEFAULT_PATH);
    env.set(&format!("HOSTNAME={hostname}"));
    if inputs.container.tty {
        env.set(DEFAULT_TERM);
    }
    for variable in &inputs.image.config.env {
        no_nul("environment variable of the image", variable)?;
        // runc refuses them at the end of a start, and names neither image nor variable.
        if variable.find('=').is_none_or(|length| length == 0) {
            return Err(OciSpecError::ImageEnv { variable: variable.clone() });
        }
        env.set(variable);
    }
    for (name, value) in &inputs.container.envs {
        if name.is_empty() || name.contains('=') {
            return Err(OciSpecError::EnvName { name: name.clone() });
        }
        let variable = format!("{name}={value}");
        no_nul("environment variable", &variable)?;
        env.set(&variable);
    }
    Ok(env.variables)
}

#[derive(Default)]
struct Environment {
    variables: Vec<String>,
}

impl Environment {
    fn set(&mut self, variable: &str) {
        let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
        let wanted = name(variable);
        match self.variables.iter_mut().find(|known| name(known) == wanted) {
            Some(known) => variable.clone_into(known),
            None => self.variables.push(variable.to_owned()),
        }
    }
}

/// An image may leave out the leading slash; the OCI runtime wants it.
fn cwd(inputs: &SpecInputs<'_>) -> Result<PathBuf, OciSpecError> {
    let (wished, image) = (&inputs.container.working_dir, &inputs.image.config.working_dir);
    let directory = if wished.is_empty() { image } else { wished };
    no_nul("working directory", directory)?;
    Ok(Path::new("/").join(directory))
}

pub(super) fn no_nul(what: &'static str, value: &str) -> Result<(), OciSpecError> {
    if value.contains('\0') {
        return Err(OciSpecError::NulByte { what, value: value.to_owned() });
    }
    Ok(())
}
