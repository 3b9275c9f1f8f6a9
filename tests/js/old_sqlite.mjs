// An app whose SQLite is older than STRICT tables (sql.js 1.5.0 holds 3.35): opens a file, runs the statements it is given, and
// writes the file back. Prints the version of SQLite, and the rows of the last statement.
import { readFileSync, writeFileSync } from 'node:fs'
import initSqlJs from 'sql.js'

const [path, ...statements] = process.argv.slice(2)
const wasmBinary = readFileSync(new URL('node_modules/sql.js/dist/sql-wasm.wasm', import.meta.url))
const SQL = await initSqlJs({ wasmBinary })
const app = new SQL.Database(readFileSync(path))
let rows = []
for (const statement of statements) {
  const [answer] = app.exec(statement)
  rows = answer ? answer.values : []
}
const [[version]] = app.exec('SELECT sqlite_version()')[0].values
const [[sound]] = app.exec('PRAGMA integrity_check')[0].values
writeFileSync(path, app.export())
console.log(JSON.stringify({ version, sound, rows }))
