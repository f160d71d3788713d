#!/usr/bin/env bash
# Checks out the commit that a change is judged against, with its own code, in the folder named.
#
#   EVENT=… CANDIDATE=… [BEFORE=…] [GROUP_BASE=…] [TARGET=…] .github/base.sh FOLDER
#
# EVENT is GitHub's event, CANDIDATE the commit under test, BEFORE where a push began, GROUP_BASE
# what a merge group stands on, TARGET the branch that it would be merged into. Needs the whole
# history. Prints `base=HASH`, as a step's output.
set -euo pipefail

refuse() {
    echo "::error::$*" >&2
    exit 1
}

folder=$1
case "$EVENT" in
pull_request)
    # GitHub tests the merge of the change into the branch as it is now; the first parent of that
    # merge is this branch, and so their merge base.
    read -r -a parents < <(git rev-list --parents --max-count 1 "$CANDIDATE" --)
    [ "${#parents[@]}" -eq 3 ] || refuse "expected GitHub's merge of the pull request. Received:" \
        "$CANDIDATE, a commit with $((${#parents[@]} - 1)) parents"
    base=${parents[1]}
    ;;
merge_group)
    base=$GROUP_BASE
    ;;
push)
    base=$BEFORE
    ;;
workflow_dispatch)
    base=$(git merge-base "refs/remotes/origin/$TARGET" "$CANDIDATE") ||
        refuse "$CANDIDATE shares no commit with origin/$TARGET"
    ;;
*)
    refuse "no base is known for the event '$EVENT'"
    ;;
esac

# A forced push throws away what it began from; a branch that is new began from nowhere.
git cat-file -e "$base^{commit}" 2>/dev/null ||
    refuse "the base $base is not in this clone: nothing to judge the change against"
git worktree add --quiet --detach "$folder" "$base"
if ! grep --quiet '^gate:' "$folder/Makefile" 2>/dev/null || [ ! -f "$folder/gate.yaml" ]; then
    git worktree remove --force "$folder"
    refuse "the base $base has no gate (the target 'gate' in its Makefile, and gate.yaml), and a" \
        "change cannot judge itself. An administrator merges the change that brings the gate"
fi
echo "base=$base"
