#!/usr/bin/env bash
# Whether this run may read the team's storage, as a step's output: `granted=true` or `false`.
#
#   FORK=true|false ROLE=… BASE=… CANDIDATE=… .github/access.sh
#
# GitHub gives a fork's run no credentials. Its code can be checked all the same, but nobody can
# confirm its metrics: a fork whose metrics differ from the base's is refused.
set -euo pipefail

if [ "$FORK" != false ]; then
    changed=$(git diff --no-renames --name-only "$BASE" "$CANDIDATE" -- \
        dvc.lock metrics/evaluate.json metrics/intervals.csv metrics/predictions.csv)
    if [ -n "$changed" ]; then
        echo "::error::a fork changed ${changed//$'\n'/, }: metrics from a fork count only after a" \
            "maintainer has moved the branch into this repository, where they can be confirmed" >&2
        exit 1
    fi
    echo '::notice::a fork has no credentials: the checks of the remote and the confirmation are' \
        'left out; the metrics are those of the base' >&2
    echo 'granted=false'
elif [ -z "$ROLE" ]; then
    echo '::notice::the variable AWS_ROLE_READ is not set: the checks of the remote and the' \
        'confirmation of the metrics are left out' >&2
    echo 'granted=false'
else
    echo 'granted=true'
fi
