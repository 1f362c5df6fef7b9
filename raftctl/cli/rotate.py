"""`raftctl rotate`: new certificates and passwords for a running cluster, without a pause."""

from __future__ import annotations

from typing import Annotated

import typer

from raftctl.cli.changes import DryRun, Yes, approve, show_plan
from raftctl.cli.options import Options, Output, with_options

app = typer.Typer(no_args_is_help=True, help="New certificates and passwords, while the cluster works.")

Authority = Annotated[
    bool, typer.Option("--authority", help="A new certificate authority, too: every earlier certificate ends.")
]


@app.command()
@with_options
def certificates(options: Options, authority: Authority = False, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Replace every member's certificate and the operator's. Can be repeated when it was interrupted."""
    from raftctl.bootstrap import rotation
    from raftctl.cli.progress import shown
    from raftctl.inventory.load import find_inventory, load_inventory

    cluster = load_inventory(find_inventory(options.inventory)).cluster(options.cluster)
    steps = rotation.plan_certificates(cluster, authority=authority)
    if dry_run:
        show_plan(steps, options.output)
        return
    approve(f"Replace the certificates of {cluster.name}?", yes=yes, plan=steps, output=options.output)
    with shown() as progress:
        rotation.rotate_certificates(
            cluster,
            authority=authority,
            progress=lambda what: progress(what, None),
            timeout=options.timeout or rotation.TIMEOUT_SECONDS,
        )
    _report(f"the certificates of {cluster.name} are new; copy {cluster.credentials} to where else it is used", options)


@app.command()
@with_options
def passwords(options: Options, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Replace the MySQL passwords and the cluster key.

    Those of raftctl's own accounts. Can be repeated when it was interrupted.
    """
    from raftctl.bootstrap import password_rotation
    from raftctl.cli.progress import shown
    from raftctl.inventory.load import find_inventory, load_inventory

    cluster = load_inventory(find_inventory(options.inventory)).cluster(options.cluster)
    steps = password_rotation.plan_passwords(cluster)
    if dry_run:
        show_plan(steps, options.output)
        return
    approve(f"Replace the passwords of {cluster.name}?", yes=yes, plan=steps, output=options.output)
    with shown() as progress:
        password_rotation.rotate_passwords(
            cluster,
            progress=lambda what: progress(what, None),
            timeout=options.timeout or password_rotation.TIMEOUT_SECONDS,
        )
    _report(f"the passwords of {cluster.name} are new; copy {cluster.credentials} to where else it is used", options)


def _report(text: str, options: Options) -> None:
    from raftctl.cli.render import emit, line

    if options.output is Output.TABLE:
        line(text)
    else:
        emit({"done": True, "text": text}, options.output)
