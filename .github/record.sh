#!/usr/bin/env bash
# Commits what a training wrote to its branch, and pushes it.
#
#   TOKEN=… URL=… BRANCH=… DEFAULT_BRANCH=… .github/record.sh PATCH
#
# PATCH is a Git patch against the commit checked out. It is material from a machine that ran the
# branch's code: only the files of a run are taken from it. Prints `commit=HASH`, as a
# step's output.
set -euo pipefail

refuse() {
    echo "::error::$*" >&2
    exit 1
}

patch=$1
[ "$BRANCH" != "$DEFAULT_BRANCH" ] || refuse "a training is never committed to $DEFAULT_BRANCH"

if [ -s "$patch" ]; then
    git apply --index "$patch"
    while IFS= read -r -d '' path; do
        case "$path" in
        params.yaml | dvc.lock | metrics/* | plots/* | README.md | MODEL_CARD.md) ;;
        *) refuse "a training may change params.yaml, dvc.lock, metrics, plots, README.md and" \
            "MODEL_CARD.md. Received: $path" ;;
        esac
    done < <(git diff --cached --no-renames --name-only -z)
    git -c user.name='github-actions[bot]' \
        -c user.email='41898282+github-actions[bot]@users.noreply.github.com' \
        commit --quiet --message "Record the training of $BRANCH"
    # The token is in no argument and in no file: Git asks this helper for it.
    # shellcheck disable=SC2016 # the helper's own shell expands it
    git -c credential.helper= \
        -c credential.helper='!f() { echo username=x-access-token; echo "password=$TOKEN"; }; f' \
        push --quiet "$URL" "HEAD:refs/heads/$BRANCH" ||
        refuse "$BRANCH could not be pushed. If it has moved on meanwhile, start the training" \
            "again: what is done comes back from the run-cache"
else
    echo "::notice::the training changed nothing: $BRANCH recorded it already" >&2
fi
echo "commit=$(git rev-parse HEAD)"
