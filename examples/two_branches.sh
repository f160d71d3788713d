#!/usr/bin/env bash
# The story of two branches: `better` corrects a learning rate, `worse` trades recall for fewer false
# alarms, and a third, `comment`, changes no metric. Each runs `dvc repro`, commits, and asks
# `dvc metrics diff main` and the gate. The gate passes `better` and `comment` and refuses `worse`.
#
#   examples/two_branches.sh [FOLDER]
#
# It uses small phantoms in a clone of its own, made in FOLDER (default: a temporary folder). It needs the
# environment that `make` sets up, but no data, no network and no Git identity.
set -euo pipefail

fail() {
    echo "error: $*" >&2
    exit 1
}

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
export PATH="$checkout/.venv/bin:$PATH"
for tool in git dvc pneumonia python; do
    command -v "$tool" >/dev/null || fail "$tool is not there. \`make check\` sets up what is needed"
done
if [ $# -gt 1 ]; then
    fail "expected at most one folder. Received: $*"
fi
folder=$(python -c 'import os, sys; print(os.path.realpath(sys.argv[1]))' "${1:-$(mktemp -d)}")
case "$folder/" in
"$checkout"/*) fail "$folder: expected a folder outside $checkout, which is to stay as it is" ;;
esac
if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ]; then
    fail "$folder: expected a new or an empty folder. Received: one with files, of an earlier story" \
        "perhaps; remove it, or name another"
fi

step() {
    printf '\n=== %s\n' "$*"
}

# replace FILE OLD NEW: an edit that a person would make in an editor.
replace() {
    grep --quiet --fixed-strings "$2" "$1" || fail "$1: expected a line with '$2'"
    sed -i.before "s|$2|$3|" "$1"
    rm "$1.before"
}

# The output of the stages goes to a file. Only the names of the stages that ran are shown, or that came
# from the cache if clones share one.
repro() {
    echo '$ dvc repro'
    dvc repro >.git/repro.log 2>&1 || {
        cat .git/repro.log >&2
        fail 'dvc repro: a stage failed; its error is above'
    }
    grep -E '^Running stage|is cached' .git/repro.log || echo 'nothing to run'
}

commit() {
    git add --all
    git commit --quiet --message "$1"
}

# branch NAME: a new branch from main, with main's data and models.
branch() {
    git switch --quiet --create "$1" main
    dvc checkout --quiet
}

# play BRANCH STATUS: run, commit and gate a change; the gate must end with STATUS.
play() {
    local status=0
    git diff --unified=0 | grep '^[-+] *[#a-z]'
    repro
    commit "$1"
    echo '$ dvc metrics diff main'
    dvc metrics diff main >.git/diff.txt
    grep . .git/diff.txt || echo 'no metric differs'
    echo '$ pneumonia gate --base main'
    pneumonia gate --base main || status=$?
    echo "exit status $status"
    [ "$status" -eq "$2" ] || fail "branch $1: expected the gate to end with status $2"
}

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
export GIT_AUTHOR_NAME=story GIT_AUTHOR_EMAIL=story@localhost
export GIT_COMMITTER_NAME=story GIT_COMMITTER_EMAIL=story@localhost

step "a clone in $folder"
git clone --quiet "$checkout" "$folder"
cd "$folder"
git config commit.gpgsign false
export PYTHONPATH="$folder/src" # the clone's own code, not that of the checkout
git switch --quiet --force-create main

step 'main: parameters and a policy for small phantoms, trained and committed'
cp examples/params.yaml examples/gate.yaml .
repro
commit 'the baseline of small phantoms'

step 'better: a higher learning rate'
branch better
replace params.yaml 'learning_rate: 0.02' 'learning_rate: 0.3'
play better 0

step 'worse: fewer false alarms at the price of recall'
branch worse
replace params.yaml 'target_recall: 0.95' 'target_recall: 0.7'
play worse 3

step 'comment: a comment in code that draws; no metric can change'
branch comment
echo '# A comment alone.' >>src/pneumonia/plots/curves.py
play comment 0

step "done: better and comment may be merged, worse may not. Look around in $folder"
