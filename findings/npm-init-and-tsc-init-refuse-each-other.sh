#!/usr/bin/env bash
# A package of `npm init -y` with a configuration of `tsc --init` compiles no file that imports or exports.
#
# Versions: npm 11.19.1, TypeScript 7.0.2.
# One would guess: what the two write by themselves goes together; everybody begins a project so.
# What happens: npm writes "type": "commonjs", TypeScript "module": "nodenext" and "verbatimModuleSyntax": true. An `import` or an
#   `export` is an error then (TS1295, TS1287), and JavaScript is written all the same, as CommonJS. Either
#   `npm pkg set type=module` or "verbatimModuleSyntax": false mends it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/tools" "$folder/project"
cd "$folder/tools"
npm install --silent --no-audit --no-fund npm@11.19.1 typescript@7.0.2 >/dev/null
PATH="$folder/tools/node_modules/.bin:$PATH"
cd "$folder/project"
npm init -y >/dev/null
tsc --init >/dev/null
cat >value.ts <<'TS'
export function value(): number {
  return 1
}
TS
cat >index.ts <<'TS'
import { value } from './value.js'
export const twice = 2 * value()
TS
compile() {
  (tsc --noEmit --pretty false || true) | sed -E 's/^([a-z.]+)\([0-9,]+\): error (TS[0-9]+):.*/\1 \2/' | sort | uniq -c | sed 's/^ *//'
}
diff - <(
  node -p 'require("./package.json").type'
  compile
  npm pkg set type=module
  echo "as an ES module:"
  compile
  npm pkg set type=commonjs
  sed -i 's/"verbatimModuleSyntax": true/"verbatimModuleSyntax": false/' tsconfig.json
  echo "as CommonJS, without verbatimModuleSyntax:"
  compile
) <<'SEEN'
commonjs
1 index.ts TS1287
1 index.ts TS1295
1 value.ts TS1287
as an ES module:
as CommonJS, without verbatimModuleSyntax:
SEEN
echo 'as it was seen'
