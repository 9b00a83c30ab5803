/** What the README says to load in init, for httpsFetch. */
import 'node:https'
import { isIP } from 'node:net'
import { createSecureContext } from 'node:tls'
import { sign } from '../../../lambda-cache.js'

const url = 'https://example.com'
const headers = { url }
const credentials = { accessKeyId: '', secretAccessKey: '' }
sign({ method: 'GET', url, headers, service: '', region: '', credentials, date: new Date() })
createSecureContext()
isIP(url)
isIP(url)
