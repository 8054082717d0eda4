//! `RUN --mount`.

use strata_parser::mount::{Mount, MountError, MountFlag, MountKind};
use strata_parser::{Diagnostic, Diagnostics, Spanned};

use super::stage::{Applied, StageState};
use super::{NewVertex, Planner, join_path};
use crate::graph::{CopyFrom, CopyOp, MOUNTED_FILES, MountOp, MountSource, Op, Reuse, Root};

/// Where secrets without a target appear.
const SECRETS: &str = "/run/secrets";

/// Where sockets of SSH agents without a target appear, with a number behind.
const AGENT: &str = "/run/buildkit/ssh_agent";

impl Planner<'_> {
    /// The mount that `flag` asks for; `agents` of an SSH agent come before it.
    pub(super) fn mount(
        &mut self,
        state: &StageState,
        applied: &Applied<'_>,
        flag: &MountFlag,
        agents: usize,
    ) -> Result<MountOp, Diagnostics> {
        let mut unset = Vec::new();
        let mount = flag
            .resolve(&mut |raw| {
                let lookup = |name: &str| state.scope.get(name).cloned();
                let expanded = applied.lexer.expand(raw, &lookup)?;
                unset.extend(expanded.unset);
                Ok(expanded.text)
            })
            .map_err(|error| mount_error(applied, flag, &error))?;
        let word = Spanned::new(flag.text.clone(), applied.at(flag.span));
        if applied.at.is_none() {
            state.warn_unset(&unset, &word, &mut self.warnings);
        }
        let target = match (&mount.kind, &mount.target) {
            (MountKind::Secret, None) => {
                let id = mount
                    .id
                    .as_deref()
                    .or(mount.source.as_deref())
                    .unwrap_or_default();
                let name = id.rsplit('/').next().unwrap_or_default();
                format!("{SECRETS}/{name}")
            }
            (MountKind::Ssh, None) => format!("{AGENT}.{agents}"),
            (_, target) => join_path(state.workdir(), target.as_deref().unwrap_or("")),
        };
        if target == "/" {
            return Err(applied
                .error(
                    "mount-on-root",
                    flag.span,
                    "a mount can't replace the root `/`",
                )
                .with_help("give the mount a target, such as `target=/mnt`")
                .into());
        }
        let source = match mount.kind {
            MountKind::Bind => self.bind(state, applied, flag, &mount)?,
            MountKind::Cache => self.cache(state, applied, flag, &mount, &target)?,
            MountKind::Tmpfs => MountSource::Tmpfs {
                size: mount.size.filter(|size| *size > 0),
                mode: mount.mode.unwrap_or(0o1777) & 0o7777,
            },
            MountKind::Secret => secret(&mount, &target),
            MountKind::Ssh => MountSource::Ssh {
                id: mount.id.clone().unwrap_or_else(|| "default".to_owned()),
                required: mount.required,
                mode: mount.mode.unwrap_or(0o600),
                uid: mount.uid.unwrap_or(0),
                gid: mount.gid.unwrap_or(0),
            },
        };
        Ok(MountOp {
            target,
            source,
            read_only: mount.read_only,
            words: mount.words,
        })
    }

    fn bind(
        &mut self,
        state: &StageState,
        applied: &Applied<'_>,
        flag: &MountFlag,
        mount: &Mount,
    ) -> Result<MountSource, Diagnostics> {
        let path = mount.source.clone().unwrap_or_else(|| "/".to_owned());
        let from = match &mount.from {
            None => CopyFrom::Context,
            Some(from) => self.copy_source(applied, from, flag.span, false)?,
        };
        if let CopyFrom::Root(root) = from {
            return Ok(MountSource::Bind {
                root,
                path: join_path("/", &path),
            });
        }
        let (root, path) = self.mounted_files(state, applied, flag, from, &path);
        Ok(MountSource::Bind { root, path })
    }

    /// A step that puts files of a context where they can be mounted: its root, and the path in it.
    fn mounted_files(
        &mut self,
        state: &StageState,
        applied: &Applied<'_>,
        flag: &MountFlag,
        from: CopyFrom,
        path: &str,
    ) -> (Root, String) {
        // What is mounted is a layer of just the files selected: its key covers them, ignored
        // files are not in it, and a command can't see the context change under it.
        let clean = join_path("/", path);
        let vertex = self.add_vertex(
            applied.place,
            NewVertex {
                name: format!("{}files of {clean} for a mount", applied.prefix),
                text: format!("{MOUNTED_FILES}{clean}"),
                parent: Root::Empty,
                op: Op::Copy(CopyOp {
                    add: false,
                    from,
                    sources: vec![clean],
                    literal: true,
                    files: Vec::new(),
                    dest: "/source".to_owned(),
                    chown: None,
                    chmod: None,
                    link: false,
                    parents: false,
                    excludes: Vec::new(),
                    unpack: false,
                    remotes: Vec::new(),
                    unpack_remotes: false,
                }),
                span: applied.at(flag.span),
                platform: state.platform.clone(),
                reuse: Reuse::default(),
            },
        );
        (Root::Step(vertex), "/source".to_owned())
    }

    fn cache(
        &mut self,
        state: &StageState,
        applied: &Applied<'_>,
        flag: &MountFlag,
        mount: &Mount,
        target: &str,
    ) -> Result<MountSource, Diagnostics> {
        let path = join_path("/", mount.source.as_deref().unwrap_or("/"));
        let (from, path) = match &mount.from {
            None => (Root::Empty, path),
            Some(from) => match self.copy_source(applied, from, flag.span, false)? {
                CopyFrom::Root(root) => (root, path),
                from => self.mounted_files(state, applied, flag, from, &path),
            },
        };
        let id = mount.id.clone().unwrap_or_else(|| target.to_owned());
        let namespace = self
            .global
            .build_arg("BUILDKIT_CACHE_MOUNT_NS")
            .unwrap_or_default();
        let mut id = format!("{namespace}/{}", id.trim_start_matches('/'));
        let (mode, uid, gid) = (
            mount.mode.unwrap_or(0o755),
            mount.uid.unwrap_or(0),
            mount.gid.unwrap_or(0),
        );
        if mount.mode.is_some() || mount.uid.is_some() || mount.gid.is_some() {
            // Another owner or mode is another cache.
            id = format!("{id}?{mode:o},{uid},{gid}");
        }
        Ok(MountSource::Cache {
            id,
            sharing: mount.sharing,
            from,
            path,
            mode,
            uid,
            gid,
        })
    }
}

fn secret(mount: &Mount, target: &str) -> MountSource {
    let id = mount
        .id
        .clone()
        .or_else(|| mount.source.clone())
        .unwrap_or_else(|| target.rsplit('/').next().unwrap_or_default().to_owned());
    MountSource::Secret {
        id,
        file: mount.env.is_none() || mount.target.is_some(),
        env: mount.env.clone(),
        required: mount.required,
        mode: mount.mode.unwrap_or(0o400),
        uid: mount.uid.unwrap_or(0),
        gid: mount.gid.unwrap_or(0),
    }
}

fn mount_error(applied: &Applied<'_>, flag: &MountFlag, error: &MountError) -> Diagnostic {
    applied
        .error("bad-mount", flag.span, error.to_string())
        .with_label("in this mount")
}
