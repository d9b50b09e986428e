"""``imbalance reproduce``: all experiments of a folder, their figures and claims."""

from typing import Annotated

import tyro

from imbalance.reporting.experiment import scripts
from imbalance.reporting.reproduce import ReproduceOptions, carry_out


def reproduce(options: Annotated[ReproduceOptions, tyro.conf.arg(name="")]) -> int:
    """Draw the figures of the paper's main text and its theorem's, and check all claims.

    What is stored is not run again, and what is stopped goes on from there. With --all, the
    appendices and this project's own experiments too. In a folder of your own, see --experiments.
    """
    return carry_out(dict.fromkeys(scripts(options.experiments, options.all)), options)
