/**
 * `npm run check`: the limits within which lambda-cache.ts stays legible, and the border between its two halves. `--file` measures
 * another version.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import ts from 'typescript6'

const MAX_LINES = 40
const MAX_PARAMETERS = 4
const MAX_COLUMNS = 100
const MAX_EXPRESSION = 30
const MIN_WORDS = 5

/** Casts that the compiler cannot do without: a part of the line, and the reason. */
const CASTS: readonly (readonly [code: string, reason: string])[] = [
  [
    'wrapped(handler as Handler, options) as never',
    'the inferred types of a handler are not those of its wrapper',
  ],
  ['globalThis.fetch as never', "the types of Node.js and the DOM differ in a response's body"],
  ['...decoders] as never', 'a pipeline of unknown length has no overload'],
  ['modules.get(name) as never', 'it is typed by overloads, which no type parameter fits'],
]

/** Functions that make an error, and which of their arguments is its text. */
const MAKERS = new Map([
  ['failure', 1],
  ['invalidOption', 0],
  ['invalidAnswer', 0],
  ['noCredentials', 0],
])

type Part = 'Cache' | 'Wire' | 'Both'

interface Section {
  readonly title: string
  readonly part: Part
  readonly start: number
}

const { values } = parseArgs({ options: { file: { type: 'string' } } })
const path = values.file ?? fileURLToPath(new URL('../lambda-cache.ts', import.meta.url))
const source = readFileSync(path, 'utf8')
const options = { noLib: true, noResolve: true, types: [], target: ts.ScriptTarget.ES2022 }
const program = ts.createProgram([path], options)
const file = program.getSourceFile(path) as ts.SourceFile
const checker = program.getTypeChecker()
const problems: string[] = []
const notes: string[] = []

function lineOf(position: number): number {
  return file.getLineAndCharacterOfPosition(position).line + 1
}

function report(position: number, text: string): void {
  problems.push(`line ${lineOf(position)}: ${text}`)
}

function visit(node: ts.Node, see: (node: ts.Node) => void): void {
  see(node)
  ts.forEachChild(node, (child) => visit(child, see))
}

function nameOf(node: ts.SignatureDeclaration): string {
  const named = node.name ?? (ts.isVariableDeclaration(node.parent) ? node.parent.name : undefined)
  return named?.getText() ?? 'a function without a name'
}

// ---- Functions ----

const lengths: number[] = []
visit(file, (node) => {
  if (!ts.isFunctionLike(node) || !('body' in node) || !node.body) return
  const lines = lineOf(node.end) - lineOf(node.getStart()) + 1
  lengths.push(lines)
  if (lines > MAX_LINES) report(node.getStart(), `${nameOf(node)} has ${lines} lines`)
  if (node.parameters.length > MAX_PARAMETERS)
    report(node.getStart(), `${nameOf(node)} has ${node.parameters.length} parameters`)
})
lengths.sort((one, other) => one - other)
notes.push(
  `${source.split('\n').length - 1} lines, ${lengths.length} functions, of ${lengths[lengths.length >> 1]} lines (median) and ${lengths.at(-1)} at most`,
)

// ---- Casts ----

const inferredTypes = source.indexOf('Inferred types ----')
let casts = 0
const used = new Set<string>()
visit(file, (node) => {
  if (!ts.isAsExpression(node) || ts.isConstTypeReference(node.type)) return
  casts += 1
  if (!/\b(never|any)\b|^unknown$/.test(node.type.getText())) return
  if (node.pos > inferredTypes) return
  const known = CASTS.find(
    ([code]) => node.getText().endsWith(code) || node.parent.getText().includes(code),
  )
  if (known) used.add(known[0])
  else report(node.getStart(), `a cast without a reason: ${node.getText().slice(-60)}`)
})
for (const [code] of CASTS)
  if (!used.has(code)) problems.push(`no cast is as the list has it: ${code}`)
if (CASTS.length > 10) problems.push(`${CASTS.length} casts through never or any`)
notes.push(`${casts} casts, ${CASTS.length} of them through never or any`)

// ---- Expressions and columns ----

let expressions = 0
visit(file, (node) => {
  if (!ts.isRegularExpressionLiteral(node)) return
  expressions += 1
  if (node.text.length <= MAX_EXPRESSION) return
  const statement = node.parent.parent.parent
  const isNamed = ts.isVariableDeclaration(node.parent) && ts.isVariableStatement(statement)
  const comment = ts.getLeadingCommentRanges(source, statement.pos)
  if (!isNamed || !comment) report(node.getStart(), `an expression without a name: ${node.text}`)
})
for (const [index, line] of source.split('\n').entries())
  if (line.length > MAX_COLUMNS) problems.push(`line ${index + 1}: ${line.length} columns`)
notes.push(`${expressions} regular expressions`)

// ---- Texts of errors ----

let texts = 0
function check(text: ts.Expression, hint: ts.Expression | undefined): void {
  if (ts.isConditionalExpression(text)) {
    check(text.whenTrue, hint)
    check(text.whenFalse, hint)
    return
  }
  const own = wordsOf(text)
  if (own === undefined) return
  const words = own + ((hint && wordsOf(hint)) ?? 0)
  texts += 1
  if (words < MIN_WORDS) report(text.getStart(), `an error of ${words} words: ${text.getText()}`)
}

/** The hint among an error's details, which ends its message. */
function hintIn(details: ts.Expression): ts.Expression | undefined {
  if (!ts.isObjectLiteralExpression(details)) return undefined
  const property = details.properties.find((one) => one.name?.getText() === 'hint')
  return property && ts.isPropertyAssignment(property) ? property.initializer : undefined
}

/** How many words a text has, if it is written where the error is made. */
function wordsOf(text: ts.Expression): number | undefined {
  if (ts.isStringLiteralLike(text)) return text.text.trim().split(/\s+/).length
  if (ts.isTemplateExpression(text))
    return text
      .getText()
      .replace(/\$\{[^}]*\}/g, 'x')
      .trim()
      .split(/\s+/).length
  if (!ts.isBinaryExpression(text)) return undefined
  const [left, right] = [wordsOf(text.left), wordsOf(text.right)]
  return left === undefined || right === undefined ? undefined : left + right
}

visit(file, (node) => {
  if (!ts.isCallExpression(node)) return
  const index = MAKERS.get(node.expression.getText())
  const text = index === undefined ? undefined : node.arguments[index]
  const details = node.arguments[(index ?? 0) + 1]
  if (text) check(text, details && hintIn(details))
})
notes.push(`${texts} texts of errors`)

// ---- Sections and their border ----

const sections = [...source.matchAll(/^\/\/ -{4} (.+) -{4}$/gm)].map((match): Section => {
  const [, title = ''] = match
  const part = title.split(':')[0] as Part
  return { title, part: part === ('Border' as string) ? 'Wire' : part, start: match.index }
})
const [, list = ''] = /^\/\/ In this file.*\n.*:\n((?:\/\/ {3}.+\n)+)/m.exec(source) ?? []
const map = list.match(/(?<=^\/\/ {3}).+$/gm) ?? []
const titles = sections.map(({ title }) => title)
if (map.join() !== titles.join())
  problems.push(`the map has ${map.join()}, the banners ${titles.join()}`)

function sectionAt(position: number): Section | undefined {
  return sections.filter(({ start }) => start < position).at(-1)
}

const border = sections.find(({ title }) => title === 'Border')
const banner = border ? source.slice(border.start, source.indexOf('\n\n', border.start)) : ''
const allowed = [...banner.matchAll(/^\/\/ {3}(?:types|functions|constant) +(.+)$/gm)].flatMap(
  ([, names]) => String(names).split(', '),
)
const crossing = new Set<string>()
visit(file, (node) => {
  if (!ts.isIdentifier(node)) return
  const declaration = checker.getSymbolAtLocation(node)?.declarations?.[0]
  if (!declaration || ts.isImportSpecifier(declaration)) return
  const isTopLevel = ts.isVariableDeclaration(declaration)
    ? declaration.parent.parent.parent === file
    : declaration.parent === file
  const [here, there] = [sectionAt(node.getStart()), sectionAt(declaration.getStart())]
  if (!isTopLevel || !here || !there || here.part === there.part || there.part === 'Both') return
  if (here.part === 'Cache' && allowed.includes(node.text)) crossing.add(node.text)
  else report(node.getStart(), `${here.title} uses ${node.text} of ${there.title}`)
})
for (const name of allowed)
  if (!crossing.has(name)) problems.push(`the border lists ${name}, which the cache does not use`)
const states = file.statements.filter(
  (one) => ts.isVariableStatement(one) && one.declarationList.flags & ts.NodeFlags.Let,
)
notes.push(
  `${sections.length} sections, ${crossing.size} names across the border, ${states.length} variables of the module`,
)

console.log(notes.join('\n'))
for (const problem of problems) console.error(problem)
if (problems.length > 0) process.exitCode = 1
