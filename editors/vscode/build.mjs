// Bundle the extension, and put the licences of what is bundled beside it.
import { build } from 'esbuild'
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const { metafile } = await build({
  entryPoints: ['src/extension.ts'],
  outfile: 'dist/extension.js',
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  external: ['vscode'],
  minify: true,
  metafile: true,
})

const PACKAGE = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/
const folders = Object.keys(metafile.inputs).flatMap((input) => PACKAGE.exec(input) ?? [])
const licences = [...new Set(folders)].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry))
  if (file === undefined) {
    throw new Error(`${name} ${version} comes without the text of its licence`)
  }
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`
})
writeFileSync('dist/licences.txt', licences.join(`\n${'-'.repeat(80)}\n\n`))
if (existsSync('../../LICENSE')) {
  copyFileSync('../../LICENSE', 'LICENSE')
}
