#!/usr/bin/env bash
# Puts a file into the one comment of ours on a pull request: made once, then kept up to date.
#
#   GH_TOKEN=… REPOSITORY=owner/name PULL=… BRANCH=… .github/comment.sh FILE
#
# Without a number in PULL (a run started by hand) it is that of the open pull request of BRANCH.
# Comments are a convenience: what goes wrong is a warning, and the job's summary has it all.
set -euo pipefail

marker='<!-- pneumonia: review -->'
file=$1

degrade() {
    echo "::warning::no comment on the pull request ($*); the summary of the gate's job has it all"
    exit 0
}

[ -s "$file" ] || degrade "there is no $file"
number=$PULL
if [ -z "$number" ]; then
    number=$(gh api --method GET "repos/$REPOSITORY/pulls" --raw-field state=open \
        --raw-field "head=${REPOSITORY%%/*}:$BRANCH" --jq '.[0].number // empty') ||
        degrade 'pull requests could not be listed'
    if [ -z "$number" ]; then
        echo "::notice::$BRANCH has no open pull request, and so no comment"
        exit 0
    fi
fi

# Anybody can write the marker: only a comment of the workflow's own account is ours.
comments=$(MARKER="$marker" gh api --paginate "repos/$REPOSITORY/issues/$number/comments" --jq \
    '.[] | select(.user.login == "github-actions[bot]" and (.body | startswith(env.MARKER))) | .id'
) || degrade 'comments could not be listed'
read -r ours _ <<<"${comments//$'\n'/ }" || true

body=$(mktemp)
trap 'rm -f "$body"' EXIT
{
    printf '%s\n' "$marker"
    cat "$file"
} >"$body"
if [ -n "$ours" ]; then
    gh api --silent --method PATCH "repos/$REPOSITORY/issues/comments/$ours" \
        --field "body=@$body" || degrade 'it could not be changed'
else
    gh api --silent --method POST "repos/$REPOSITORY/issues/$number/comments" \
        --field "body=@$body" || degrade 'it could not be made'
fi
